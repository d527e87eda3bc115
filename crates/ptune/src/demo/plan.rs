//! What the demo does: over which models, with which relations, how long.

use crate::train::RunConfig;
use crate::train::config::{ScheduleKind, TrainConfig};

/// The plan of a demo.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which facts are for testing, first values, order: everything that is drawn.
    pub seed: u64,
    /// In the order in which they are shown.
    pub models: Vec<ModelPlan>,
    /// Training steps of each prompt.
    pub steps: usize,
    /// Facts a step.
    pub batch_size: usize,
    /// The highest learning rate; it falls to 0 at the last step.
    pub learning_rate: f64,
    /// Steps between evaluations on the dev facts.
    pub eval_every: usize,
    /// Test facts of a relation whose answers are told in words.
    pub answers: usize,
    /// At most so many relations are surveyed.
    pub surveyed: usize,
}

/// What is done over one model.
#[derive(Clone, Debug)]
pub struct ModelPlan {
    /// A model by its name.
    pub name: String,
    /// The relations whose prompts are tuned.
    pub relations: Vec<String>,
    /// At most so many prompts of a relation in a language.
    pub prompts: usize,
}

impl Plan {
    /// A demo of two relations and a few steps, for tests: seconds without optimisation.
    pub fn tiny() -> Plan {
        let mut plan = Plan::usual(0);
        plan.models.truncate(1);
        for model in &mut plan.models {
            model.relations = vec!["capital".into(), "continent".into()];
            model.prompts = 2;
        }
        Plan { steps: 4, eval_every: 2, surveyed: 2, ..plan }
    }

    /// The run of a prompt, all but its model and its task.
    pub(super) fn config(&self) -> RunConfig {
        let train = TrainConfig {
            steps: Some(self.steps),
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            schedule: ScheduleKind::Linear,
            eval_every: Some(self.eval_every),
            ..TrainConfig::default()
        };
        RunConfig { seed: self.seed, train, ..RunConfig::default() }
    }

    /// The demo as the command gives it. The relations are about subjects that everybody knows, and those of countries can
    /// be swapped on one; the survey shows all others beside them.
    pub fn usual(seed: u64) -> Plan {
        let model = |name: &str, relations: &[&str]| ModelPlan {
            name: name.into(),
            relations: relations.iter().map(|relation| (*relation).into()).collect(),
            prompts: usize::MAX,
        };
        Plan {
            seed,
            models: vec![
                model("world-mlm", &["capital", "continent", "language", "native_country"]),
                model("world-gpt", &["capital", "continent"]),
            ],
            steps: 60,
            batch_size: 8,
            learning_rate: 1e-2,
            eval_every: 10,
            answers: 3,
            surveyed: usize::MAX,
        }
    }
}
