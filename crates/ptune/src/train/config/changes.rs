//! What is different between two run files, key by key.

use toml::{Table, Value};

use super::RunConfig;
use crate::keys::leaves;

/// Keys that may change while a run goes on: no result depends on them.
const FREE_KEYS: [&str; 3] = ["threads", "train.save_every", "train.keep_mb"];
/// Tables that training does not read.
const FREE_TABLES: [&str; 2] = ["search.", "sensitivity."];

impl RunConfig {
    /// The keys whose values differ between two resolved run files, as TOML, each in words: `train.steps was 20 and is
    /// 30`. Keys on which no result depends are left out. A file that is no TOML differs as a whole.
    pub(crate) fn changes(then: &str, now: &str) -> Vec<String> {
        let (Ok(then), Ok(now)) = (toml::from_str::<Table>(then), toml::from_str::<Table>(now)) else {
            return if then == now { Vec::new() } else { vec!["the run file has changed".into()] };
        };
        let (then, now) = (leaves(&then), leaves(&now));
        let mut keys: Vec<&String> = then.iter().chain(&now).map(|(key, _)| key).collect();
        keys.sort();
        keys.dedup();
        let value = |leaves: &[(String, Value)], key: &str| {
            let value = leaves.iter().find(|(name, _)| name == key).map(|(_, value)| value.to_string());
            value.unwrap_or_else(|| "not there".into())
        };
        let differs = |key: &&String| {
            !FREE_KEYS.contains(&key.as_str())
                && !FREE_TABLES.iter().any(|table| key.starts_with(table))
                && value(&then, key) != value(&now, key)
        };
        let keys = keys.into_iter().filter(differs);
        keys.map(|key| format!("{key} was {} and is {}", value(&then, key), value(&now, key))).collect()
    }
}
