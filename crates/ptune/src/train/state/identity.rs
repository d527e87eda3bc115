//! What a run is: everything that its results depend on. A run goes on only where all of it is the same.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::hexadecimal;
use crate::error::Result;
use crate::method::Head;
use crate::tensor::Device;
use crate::train::Task;
use crate::train::config::RunConfig;
use crate::train::prepare::Data;

/// Everything that a run's results depend on.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// The release of ptune.
    release: String,
    instruction_set: String,
    /// The run file as resolved, TOML.
    config: String,
    /// The fingerprint of the model.
    model: String,
    /// SHA-256 of the rows of each data file as the model sees them, and of the candidate answers, by their key.
    data: BTreeMap<String, String>,
}

impl Identity {
    /// What the run of a resolved run file is on a device.
    pub(crate) fn new(
        config: &RunConfig,
        device: &Device,
        fingerprint: &str,
        data: &Data,
        task: &Task,
    ) -> Result<Identity> {
        let mut digests = BTreeMap::from([("data.train".to_owned(), digest(&data.train))]);
        for (key, rows) in [("data.dev", &data.dev), ("data.test", &data.test)] {
            digests.extend(rows.as_ref().map(|rows| (key.to_owned(), digest(rows))));
        }
        if let Head::Vocabulary { candidates: Some(words), .. } = &task.head {
            digests.insert("task.vocabulary".to_owned(), digest(words.tokens()));
        }
        Ok(Identity::of(config.to_toml()?, device, fingerprint, digests))
    }

    /// What a run is: its resolved run file, the fingerprint of its model, and a digest of each of its data files by key.
    pub(crate) fn of(config: String, device: &Device, fingerprint: &str, data: BTreeMap<String, String>) -> Identity {
        Identity {
            release: env!("CARGO_PKG_VERSION").into(),
            instruction_set: device.instruction_set().into(),
            config,
            model: fingerprint.into(),
            data,
        }
    }

    /// The same with another run file.
    pub(in crate::train) fn with_config(&self, config: &RunConfig) -> Result<Identity> {
        Ok(Identity { config: config.to_toml()?, ..self.clone() })
    }

    /// The run file.
    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    /// What has changed from `self` to `now`, in words; empty when nothing that counts has.
    pub(crate) fn changes(&self, now: &Identity) -> Vec<String> {
        let mut changes = Vec::new();
        let mut compare = |what: &str, then: &str, now: &str| {
            if then != now {
                changes.push(format!("{what} was {then} and is {now}"));
            }
        };
        compare("the release of ptune", &self.release, &now.release);
        compare("the instruction set", &self.instruction_set, &now.instruction_set);
        changes.extend(RunConfig::changes(&self.config, &now.config));
        if self.model != now.model {
            changes.push("the model's files have changed".into());
        }
        for (key, digest) in &now.data {
            if self.data.get(key).is_some_and(|then| then != digest) {
                changes.push(format!("the contents of {key} have changed"));
            }
        }
        changes
    }
}

/// SHA-256 of a value as its `Hash` feeds it. Another compiler may feed it otherwise; then a run is refused that could go
/// on, never the other way.
pub(crate) fn digest(value: &(impl Hash + ?Sized)) -> String {
    let mut hash = Sha256Hasher(Sha256::new());
    value.hash(&mut hash);
    hexadecimal(&hash.0.finalize())
}

/// Lets everything that can be hashed be hashed with SHA-256.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not used: the digest is longer.
    fn finish(&self) -> u64 {
        0
    }
}
