//! The token of the hub: from `HF_TOKEN`, else from the file that `hf auth login` writes. It is shown nowhere: errors name
//! the place that it came from.

use std::fmt;
use std::path::Path;

use ptune::checkpoint::hub;
use ptune::{Error, files};

use super::variable;

const VARIABLES: [&str; 2] = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"];
/// A token is some forty characters.
const LARGEST_FILE: u64 = 64 << 10;

/// What opens gated and private models.
pub(super) struct Token {
    header: String,
    /// Where it was found.
    pub(super) place: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token of {}", self.place)
    }
}

impl Token {
    /// The token of the environment; `None` where there is none, or `HF_HUB_DISABLE_IMPLICIT_TOKEN` keeps it back.
    ///
    /// # Errors
    /// A token file that cannot be read, or holds something else.
    pub(super) fn find() -> Result<Option<Token>, Error> {
        if super::is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return Ok(None);
        }
        if let Some((name, text)) = VARIABLES.iter().find_map(|name| Some((name, variable(name)?))) {
            return Token::of(&text, (*name).to_owned());
        }
        match hub::token_file() {
            Some(file) if file.is_file() => Token::of(&read(&file)?, file.display().to_string()),
            _ => Ok(None),
        }
    }

    fn of(text: &str, place: String) -> Result<Option<Token>, Error> {
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::request(format!(
                "{place} holds more than a token: white space or other characters in it"
            )));
        }
        Ok((!text.is_empty()).then(|| Token { header: format!("Bearer {text}"), place }))
    }

    /// The value of the header `Authorization`.
    pub(super) fn header(&self) -> &str {
        &self.header
    }
}

fn read(file: &Path) -> Result<String, Error> {
    files::read_text(file, LARGEST_FILE)
}
