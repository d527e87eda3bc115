//! What is written comes back to the bit, whatever a crash leaves beside it; what is damaged is refused.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::files;
use crate::files::tests::on_a_full_disk;
use crate::tensor::Device;

const FILE: &str = "state.safetensors";

/// A directory with the state of step `step`, its tensors filled with numbers of that step.
struct Scene {
    directory: TempDir,
    device: Device,
}

impl Scene {
    fn new() -> Scene {
        Scene { directory: tempfile::tempdir().unwrap(), device: Device::processor(Some(1)) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(FILE)
    }

    fn tensors(&self, step: usize) -> Vec<(String, Tensor)> {
        // The second is longer than a piece, the third has one value.
        [("a.weight", 3, 5), ("b.weight", 7, 10_001), ("c.bias", 1, 1)]
            .map(|(name, rows, columns)| {
                let values: Vec<f32> = (0..rows * columns).map(|i| (i + step) as f32 / 3.0).collect();
                (name.to_owned(), self.device.upload(rows, columns, &values))
            })
            .into()
    }

    fn write(&self, step: usize) {
        let tensors = self.tensors(step);
        let named: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
        state(step).write(&self.path(), &named).unwrap();
    }

    /// Reads the state with its tensors, which must be those of its step; the step.
    fn read(&self) -> Result<usize> {
        let file = StateFile::open(&self.path())?.expect("a state");
        let mut tensors = self.tensors(usize::MAX / 2);
        file.read_tensors(tensors.iter_mut().map(|(name, tensor)| (name.clone(), tensor)).collect())?;
        let step = file.state.progress.step;
        for ((name, found), (_, expected)) in tensors.iter().zip(self.tensors(step)) {
            assert!(found.read() == expected.read(), "{name} has other values");
        }
        assert_eq!(file.state.optimizer_steps, step as u64);
        Ok(step)
    }

    #[track_caller]
    fn refused(&self, says: &str) {
        let error = self.read().unwrap_err();
        let text = error.to_string();
        assert!(error.is_request() && text.contains(FILE) && text.contains(says), "'{says}' is not in: {text}");
    }
}

fn state(step: usize) -> State {
    let identity = json!({"release": "1", "instruction_set": "portable", "config": "", "model": "", "data": {}});
    let progress = Progress { step, log: "{\"step\":0}\n".into(), ..Progress::default() };
    State::new(serde_json::from_value(identity).unwrap(), progress, step as u64)
}

#[test]
fn a_state_comes_back_to_the_bit_and_replaces_the_older() {
    let scene = Scene::new();
    assert!(StateFile::open(&scene.path()).unwrap().is_none());
    for step in [1, 2, 1_000_000] {
        scene.write(step);
        assert_eq!(scene.read().unwrap(), step);
        assert_eq!(fs::read_dir(scene.directory.path()).unwrap().count(), 1);
    }
}

/// The write is: a temporary file grows, it is renamed over the older. A crash leaves the beginning of one beside the
/// older state, or the newer state alone.
#[test]
fn a_crash_at_any_moment_of_a_write_leaves_a_whole_state() {
    let scene = Scene::new();
    scene.write(2);
    let newer = fs::read(scene.path()).unwrap();
    scene.write(1);
    let aside = scene.directory.path().join(format!(".{FILE}.abcdef.tmp"));
    for length in [0, 1, 7, 8, 9, 100, newer.len() / 2, newer.len() - 1, newer.len()] {
        fs::write(&aside, &newer[..length]).unwrap();
        assert_eq!(scene.read().unwrap(), 1, "with {length} bytes of the next state beside it");
    }
    fs::rename(&aside, scene.path()).unwrap();
    assert_eq!(scene.read().unwrap(), 2);
    // And what is left over goes away before the run goes on.
    fs::write(&aside, "half").unwrap();
    files::remove_temporaries(scene.directory.path()).unwrap();
    assert!(!aside.exists() && scene.read().unwrap() == 2);
}

#[test]
fn a_full_disk_leaves_the_older_state() {
    if let Some(child) = on_a_full_disk("a_full_disk_leaves_the_older_state", Scene::new().directory.path()) {
        let device = Device::processor(Some(1));
        let (small, large) = (device.zeros(1, 10), device.zeros(100, 100));
        let path = child.join(FILE);
        state(1).write(&path, &[("a".into(), &small)]).unwrap();
        let error = state(2).write(&path, &[("a".into(), &large)]).unwrap_err();
        assert!(matches!(error, Error::Write { .. }), "{error}");
        let file = StateFile::open(&path).unwrap().unwrap();
        let mut read = device.zeros(1, 10);
        file.read_tensors(vec![("a".into(), &mut read)]).unwrap();
        assert_eq!(file.state.progress.step, 1);
        assert_eq!(fs::read_dir(child).unwrap().count(), 1, "the temporary file was left behind");
    }
}

#[test]
fn a_truncated_or_longer_file_is_refused() {
    let scene = Scene::new();
    scene.write(1);
    let whole = fs::read(scene.path()).unwrap();
    for length in [0, 1, 7, 8, 9, 100, 1000, whole.len() / 2, whole.len() - 1] {
        fs::write(scene.path(), &whole[..length]).unwrap();
        scene.refused("the saved state cannot be used");
    }
    fs::write(scene.path(), [&whole[..], b"x"].concat()).unwrap();
    scene.refused("the saved state cannot be used");
}

#[test]
fn a_changed_bit_is_found_wherever_it_is() {
    let scene = Scene::new();
    scene.write(1);
    let whole = fs::read(scene.path()).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for at in (0..header).step_by(7).chain((header..whole.len()).step_by(9_973)).chain([whole.len() - 1]) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(scene.path(), bytes).unwrap();
        assert!(scene.read().is_err(), "byte {at}");
    }
}

#[test]
fn tensors_of_another_run_are_named() {
    let scene = Scene::new();
    let write = |names: &[(&str, usize)]| {
        let tensors: Vec<(String, Tensor)> =
            names.iter().map(|(name, columns)| (name.to_string(), scene.device.zeros(1, *columns))).collect();
        let named: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
        state(1).write(&scene.path(), &named).unwrap();
    };
    write(&[("c.bias", 1)]);
    scene.refused("'a.weight' is missing");
    write(&[("c.bias", 2)]);
    scene.refused("'c.bias' of shape [1, 2]");
    write(&[("d", 1)]);
    scene.refused("'d'");
}

#[test]
fn another_format_is_refused() {
    let scene = Scene::new();
    State { format: 2, ..state(1) }.write(&scene.path(), &[]).unwrap();
    scene.refused("its format is 2, and this release reads 1");
}

proptest! {
    /// JSON carries every number exactly: a sum that came back one bit lower would show in metrics.jsonl.
    #[test]
    fn sums_come_back_to_the_bit(bits in any::<u64>()) {
        let loss = f64::from_bits(bits);
        prop_assume!(loss.is_finite());
        let mut state = state(1);
        state.progress.loss = loss;
        state.progress.kept = Some([("accuracy", loss)].into());
        let back: State = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        prop_assert_eq!(back.progress.loss.to_bits(), loss.to_bits());
        prop_assert_eq!(back.progress.kept.unwrap().get("accuracy").unwrap().to_bits(), loss.to_bits());
    }
}
