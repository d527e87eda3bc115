//! The model directories that are part of the program, under paths that no disk has: `built-in:world-mlm/config.json`.
//!
//! Whoever reads a model's files through [`super::exists`], [`super::read_bytes`] and `bytes` reads these as well. They
//! stay where they are: nothing is unpacked. What the two models are, and the command that makes each again, stands in
//! `assets/models/README.md`.

use std::path::{Component, Path, PathBuf};

/// What such a path begins with.
const ROOT: &str = "built-in:";

/// A model and its files by name.
type Model = (&'static str, &'static [(&'static str, &'static [u8])]);

macro_rules! model {
    ($name:literal, $($file:literal),+) => {
        ($name, &[$(($file, include_bytes!(concat!("../../assets/models/", $name, "/", $file)))),+])
    };
}

static MODELS: &[Model] = &[
    model!("world-mlm", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    model!("world-gpt", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
];

/// The names of the models.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|(name, _)| *name)
}

/// The directory of the model of this name; a path that is one already comes back as it is.
pub(crate) fn directory(model: &Path) -> Option<PathBuf> {
    let text = model.to_str()?;
    let wanted = text.strip_prefix(ROOT).unwrap_or(text);
    names().find(|name| *name == wanted).map(|name| PathBuf::from(format!("{ROOT}{name}")))
}

/// The name of the model whose directory this is.
pub(crate) fn name_of(directory: &Path) -> Option<&'static str> {
    let wanted = directory.to_str()?.strip_prefix(ROOT)?;
    names().find(|name| *name == wanted)
}

/// The files in such a directory with their bytes; none in any other.
pub(crate) fn files_of(directory: &Path) -> &'static [(&'static str, &'static [u8])] {
    let Some(name) = name_of(directory) else { return &[] };
    MODELS.iter().find(|(model, _)| *model == name).map_or(&[], |(_, files)| files)
}

/// The bytes of a file, if it is a built-in one.
pub(crate) fn bytes(path: &Path) -> Option<&'static [u8]> {
    let mut components = path.components();
    let (Component::Normal(directory), Component::Normal(file), None) =
        (components.next()?, components.next()?, components.next())
    else {
        return None;
    };
    files_of(Path::new(directory)).iter().find(|(name, _)| file == *name).map(|(_, bytes)| *bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_in_file_is_found_by_its_path_and_nothing_else_is() {
        for name in names() {
            let directory = directory(Path::new(name)).expect("a model by its name");
            assert_eq!(self::directory(&directory), Some(directory.clone()), "its directory names it too");
            assert_eq!(name_of(&directory), Some(name));
            let config = bytes(&directory.join("config.json")).expect("every model has a configuration");
            assert!(config.starts_with(b"{"), "{name}");
            assert!(bytes(&directory.join("vocab.txt")).is_none());
            assert!(
                bytes(&directory).is_none() && bytes(&Path::new("/").join(directory).join("config.json")).is_none()
            );
        }
        for other in ["", "world", "built-in:", "built-in:world", "world-mlm/"] {
            assert_eq!(directory(Path::new(other)), None, "{other}");
            assert!(bytes(&Path::new(other).join("config.json")).is_none(), "{other}");
        }
        assert!(bytes(Path::new("world-mlm/config.json")).is_none(), "a directory of that name is the user's own");
    }
}
