//! Several prompts in one pass over a model come to the bits that each comes to alone: prompts of different tasks, sizes
//! and recipes, with and without low-rank additions and dropout, one leaving before the others. Whole runs of several seeds are in the tests
//! of the binary.

use std::fs;
use std::path::{Path, PathBuf};

use ptune::Device;
use ptune::checkpoint::ModelDirectory;
use ptune::data::{Beginning, Dataset, pack, pack_from};
use ptune::method::{Prompt, Trained};
use ptune::model::spec::ModelSpec;
use ptune::model::{Additions, Gradients, Lora, Model, Projection};
use ptune::prompt::AnswerKind;
use ptune::prompt::encoder::{EncoderKind, EncoderShape, PromptEncoder};
use ptune::rng::{Purpose, Rng};
use ptune::train::config::{Loss, OptimizerKind, TaskConfig};
use ptune::train::{Batch, GroupRecipe, Order, Recipe, RunConfig, Task, Trainer};
use ptune_kernels::{Context, Isa};
use tempfile::TempDir;

/// Golden cases with models of both kinds whose words have one token or several.
const FAMILIES: [&str; 2] = ["long_words", "gpt2_long_words"];

const ROWS: &str = r#"{"premise": "The cat sleeps in the red room.", "hypothesis": "The cat is in the room.", "label": "a", "word": "yes"}
{"premise": "He loved the slow story", "hypothesis": "She hated the short story!", "label": "b", "word": "maybe"}
{"premise": "Soup", "hypothesis": "Tea, tea and rain", "label": "a", "word": "yes"}
{"premise": "It was a fine city", "hypothesis": "The capital", "label": "b", "word": "yes"}
{"premise": "Rain in the long film", "hypothesis": "yes", "label": "b", "word": "maybe"}
"#;

/// A task with its rows.
struct Case {
    task: Task,
    data: Dataset,
    encoder: EncoderKind,
    recipe: Recipe,
    batch_size: usize,
    steps: usize,
}

/// Verbalizers of one token a word, in two orders, and of several; probing over the whole vocabulary and over a few
/// words of it; a manual prompt; the first again with another recipe; over a causal model, texts.
fn cases(model: &Path, spec: &ModelSpec, scratch: &TempDir) -> Vec<Case> {
    let rows = scratch.path().join("rows.jsonl");
    let words = scratch.path().join("words.json");
    fs::write(&rows, ROWS).unwrap();
    fs::write(&words, r#"["yes", "maybe"]"#).unwrap();
    let labels = |labels: &[(&str, &str)]| {
        let owned = |(label, word): &(&str, &str)| (label.to_string(), vec![word.to_string()]);
        TaskConfig { target: "label".into(), verbalizer: labels.iter().map(owned).collect(), ..TaskConfig::default() }
    };
    let text = || TaskConfig { target: "hypothesis".into(), answer: Some(AnswerKind::Text), ..TaskConfig::default() };
    let probing = || TaskConfig { target: "word".into(), ..TaskConfig::default() };
    let mut tasks = vec![
        ("[P*2] {premise|shorten} [P*1] {hypothesis} [MASK]", labels(&[("a", "yes"), ("b", "maybe")])),
        ("{premise|shorten} [P*4] {hypothesis} [MASK]", labels(&[("b", "maybe"), ("a", "yes")])),
        ("[P*1] {premise|shorten} [P*2] [MASK]", labels(&[("a", "not good"), ("b", "yes")])),
        ("[P*2] {hypothesis} [P*3] [MASK]", probing()),
        ("[P*3] {premise} [MASK]", TaskConfig { vocabulary: Some(words), loss: Loss::Vocabulary, ..probing() }),
        ("{premise} {hypothesis} [MASK]", labels(&[("a", "yes"), ("b", "maybe")])),
        ("[P*2] {premise|shorten} [P*1] {hypothesis} [MASK]", labels(&[("a", "yes"), ("b", "maybe")])),
    ];
    if spec.causal {
        tasks.push(("[P*2] {premise|shorten} [P*1] [MASK]", TaskConfig { answer_tokens: Some(24), ..text() }));
    }
    let encoders = [EncoderKind::Lstm, EncoderKind::Mlp, EncoderKind::Embedding];
    let case = |(i, (template, task)): (usize, (&str, TaskConfig))| {
        let config = RunConfig { task: TaskConfig { template: template.into(), ..task }, ..RunConfig::default() };
        let directory = ModelDirectory::open(model).unwrap();
        let task = Task::from_run(&config, Path::new("run.toml"), &directory, spec).unwrap();
        let group = GroupRecipe { learning_rate: 0.01 * (i + 1) as f64, weight_decay: 0.01 };
        Case {
            data: task.dataset(&rows).unwrap(),
            task,
            encoder: encoders[i % 3],
            recipe: Recipe { kind: OptimizerKind::AdamW, clip_norm: 0.5, prompt: group, backbone: group, head: group },
            batch_size: 1 + i % 3,
            steps: 2 + i % 3,
        }
    };
    tasks.into_iter().enumerate().map(case).collect()
}

/// One projection of each kind.
const TARGETS: [Projection; 3] = [Projection::Query, Projection::Value, Projection::Down];

/// What a learner comes to: its losses and its parameters.
type Bits = (Vec<u64>, Vec<u32>);

/// Trains some of the cases together. Learner i has done its own number of steps when it leaves.
fn trained(device: &Device, model: &Path, cases: &[Case], which: &[usize], dropout: f32) -> Vec<Bits> {
    let directory = ModelDirectory::open(model).unwrap();
    let model = Model::load(&directory, &[], device, Gradients::Inputs, &mut |_, _| {}).unwrap();
    let prompt = |i: usize| {
        let rows = cases[i].task.template.pseudo_rows();
        let mut rng = Rng::new(i as u64, Purpose::PromptInitialisation);
        let shape = EncoderShape::lama(cases[i].encoder);
        let width = model.embedding_width();
        if rows == 0 {
            return Prompt::manual();
        }
        Prompt::from(PromptEncoder::new(device, &shape, rows, width, 0.1, &mut rng))
    };
    // Every other one has low-rank additions, each of another rank.
    let additions = |i: usize| {
        let lora = Lora { rank: 1 + i, alpha: 3.0, rslora: false, targets: TARGETS.into() };
        (i % 2 == 1).then(|| Additions::new(&model, &lora, &mut Rng::new(i as u64, Purpose::LoraInitialisation)))
    };
    let trained = |i: usize| Trained { prompt: prompt(i), classifier: None, additions: additions(i) };
    let prompts = which.iter().map(|&i| (trained(i), &cases[i].task.head, cases[i].recipe)).collect();
    let (mut trainer, mut learners) = Trainer::new(model, prompts, device);
    let mut orders: Vec<_> =
        which.iter().map(|&i| Order::new(ROWS.lines().count(), cases[i].batch_size, Some(7))).collect();
    let mut losses = vec![Vec::new(); which.len()];
    for step in 0..which.iter().map(|&i| cases[i].steps).max().unwrap() {
        let going: Vec<usize> = (0..which.len()).filter(|&at| step < cases[which[at]].steps).collect();
        let batch = |at: &usize| {
            let (i, rows) = (which[*at], orders[*at].next_batch());
            let examples = &cases[i].data.examples;
            let encoded = rows.iter().map(|&row| &examples[row].encoded);
            let layout = match dropout {
                0.0 => pack(encoded),
                _ => pack_from(encoded.map(|row| (row, Beginning::Own))).with_dropout(
                    dropout,
                    (100 * i + step) as u64,
                    rows,
                ),
            };
            Batch {
                layout,
                targets: rows.iter().flat_map(|&row| examples[row].targets.clone()).collect(),
                share: 1.0 / (i + 1) as f64,
            }
        };
        let batches = going.iter().map(batch).collect();
        let mut together: Vec<_> =
            learners.iter_mut().enumerate().filter(|(at, _)| going.contains(at)).map(|(_, learner)| learner).collect();
        for (at, loss) in going.iter().zip(trainer.step(&mut together, batches, None)) {
            losses[*at].push(loss.to_bits());
        }
    }
    let bits = |(learner, losses): (&ptune::train::Learner<'_>, Vec<u64>)| {
        let parameters = learner.parameters(&trainer.model);
        (losses, parameters.flat_map(|p| p.value.read().iter().map(|x| x.to_bits())).collect())
    };
    learners.iter().zip(losses).map(bits).collect()
}

fn model_directory(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family).join("model")
}

#[test]
fn prompts_of_different_tasks_come_to_the_same_bits_together_and_alone() {
    for family in FAMILIES {
        let (model, scratch) = (model_directory(family), tempfile::tempdir().unwrap());
        let spec = ModelSpec::read(&ModelDirectory::open(&model).unwrap()).unwrap();
        let cases = cases(&model, &spec, &scratch);
        let everyone: Vec<usize> = (0..cases.len()).collect();
        for (isa, threads, dropout) in
            Isa::available().into_iter().flat_map(|isa| [(isa, 1, 0.0), (isa, 3, 0.0), (isa, 2, 0.1)])
        {
            let device = Device::with_context(Context::new(isa, threads));
            let what = format!("{family}, {}, {threads} threads, dropout {dropout}", isa.name());
            let together = trained(&device, &model, &cases, &everyone, dropout);
            for (i, in_company) in together.iter().enumerate() {
                let alone = trained(&device, &model, &cases, &[i], dropout);
                assert!(alone[0] == *in_company, "{what}: case {i} is another alone");
            }
            // Without these, a step that trains nothing would pass.
            assert!(together[0].1 != together[6].1, "{what}: another start and rate, the same prompt");
            assert!(together[0].0[0] != together[0].0[1], "{what}: nothing was learned");
        }
    }
}

#[test]
fn in_the_steady_state_a_step_of_several_makes_no_buffers() {
    let (model, scratch) = (model_directory(FAMILIES[0]), tempfile::tempdir().unwrap());
    let spec = ModelSpec::read(&ModelDirectory::open(&model).unwrap()).unwrap();
    let cases = cases(&model, &spec, &scratch);
    let directory = ModelDirectory::open(&model).unwrap();
    let device = Device::processor(Some(1));
    let backbone = Model::load(&directory, &[], &device, Gradients::Inputs, &mut |_, _| {}).unwrap();
    let shape = EncoderShape::lama(EncoderKind::Mlp);
    let prompt = |case: &Case| {
        let (rows, mut rng) = (case.task.template.pseudo_rows(), Rng::new(0, Purpose::PromptInitialisation));
        Prompt::from(PromptEncoder::new(&device, &shape, rows, backbone.embedding_width(), 0.1, &mut rng))
    };
    let trained = |case: &Case| {
        let lora = Lora { rank: 4, alpha: 4.0, rslora: false, targets: TARGETS.into() };
        let additions = Additions::new(&backbone, &lora, &mut Rng::new(0, Purpose::LoraInitialisation));
        Trained { prompt: prompt(case), classifier: None, additions: (case.batch_size > 1).then_some(additions) }
    };
    let prompts = cases[..3].iter().map(|case| (trained(case), &case.task.head, case.recipe)).collect();
    let (mut trainer, mut learners) = Trainer::new(backbone, prompts, &device);
    let mut made = None;
    for step in 0..4 {
        let batch = |case: &Case| Batch {
            layout: pack(case.data.examples.iter().map(|row| &row.encoded)),
            targets: case.data.examples.iter().flat_map(|row| row.targets.clone()).collect(),
            share: 1.0,
        };
        trainer.step(&mut learners.iter_mut().collect::<Vec<_>>(), cases[..3].iter().map(batch).collect(), None);
        assert_eq!(*made.get_or_insert(device.buffers_made()), device.buffers_made(), "step {step}");
    }
}
