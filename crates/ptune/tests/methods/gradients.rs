//! Whether a gradient has reached every number that is trained: its second moment in Adam is above zero. What none can
//! reach is worked out here from the rows and the shapes, and nothing else may be without one:
//!
//! | numbers | none reaches |
//! |---|---|
//! | word, position and type table | rows of tokens, positions and types that stand nowhere, or where no answer sees them |
//! | decoder, its bias | tokens whose logits are not computed |
//! | layers around a relu | units that are below zero in every row |
//! | prefix | rows beyond the window of all rows that matter, by layer |

use std::collections::BTreeSet;
use std::path::Path;

use ptune::checkpoint::{ModelDirectory, Weights};
use ptune::data::pack;
use ptune::model::spec::{ClassifierDense, ModelSpec};
use ptune::ops::{Activation, Layout};
use ptune::train::{RunConfig, Task};

/// A second moment of each number.
struct Moments(Weights);

impl Moments {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.names().filter_map(|name| name.strip_suffix(".moment2"))
    }

    /// Whether it is above zero, row by row.
    fn reached(&self, name: &str) -> ([usize; 2], Vec<bool>) {
        let name = &format!("{name}.moment2");
        let (shape, mut numbers) = (self.0.shape(name).expect("a shape"), Vec::new());
        let shape = [shape[0], shape[1]];
        self.0.read_into(name, &shape, &mut numbers).expect("a moment");
        (shape, numbers.iter().map(|x| *x > 0.0).collect())
    }
}

/// What a gradient can reach of tables and of the prefix.
#[derive(Default)]
struct Reach {
    tokens: BTreeSet<u32>,
    positions: BTreeSet<usize>,
    /// `(layer, row)`.
    prefix: BTreeSet<(usize, usize)>,
    /// The tokens whose logits are computed; `None` for all.
    columns: Option<Vec<u32>>,
}

impl Reach {
    fn of(spec: &ModelSpec, config: &RunConfig, file: &Path) -> Reach {
        let directory = ModelDirectory::open(&config.model).expect("a model directory");
        let task = Task::from_run(config, file, &directory, spec).expect("a task");
        let classifier = task.head.labels().is_some() && config.task.verbalizer.is_empty();
        let columns = if classifier { Some(Vec::new()) } else { task.head.columns(true).map(<[u32]>::to_vec) };
        let mut reach = Reach { columns, ..Reach::default() };
        let rows = task.dataset(&file.with_file_name("rows.jsonl")).expect("the rows");
        for row in rows.examples {
            reach.add(spec, &pack([&row.encoded]).behind(task.prefix_tokens().unwrap_or(0)));
        }
        reach
    }

    /// From the answers down: in each layer the rows that those above see.
    fn add(&mut self, spec: &ModelSpec, layout: &Layout) {
        let mut above: BTreeSet<usize> = layout.targets.iter().map(|row| *row as usize).collect();
        for (layer, block) in spec.layers.iter().enumerate().rev() {
            let attention = &spec.blocks[*block].attention;
            let near = |from: usize, to: usize| match (attention.causal, attention.window) {
                (true, window) => to <= from && window.is_none_or(|window| from - to < window as usize),
                (false, window) => window.is_none_or(|window| from.abs_diff(to) <= window as usize / 2),
            };
            let mut below = above.clone();
            for from in &above {
                let at = layout.positions[*from] as usize;
                let mut span = layout.spans.iter().position(|span| span.rows.contains(from));
                while let Some(i) = span {
                    let span_rows = layout.spans[i].rows.clone();
                    below.extend(span_rows.filter(|row| near(at, layout.positions[*row] as usize)));
                    let past = layout.spans[i].past.clone();
                    self.prefix.extend(past.filter(|row| near(at, *row)).map(|row| (layer, row)));
                    span = layout.spans[i].parent;
                }
            }
            above = below;
        }
        let is_pseudo = |row: usize| layout.pseudo.iter().any(|(at, _)| *at as usize == row);
        self.positions.extend(above.iter().map(|row| layout.positions[*row] as usize));
        self.tokens.extend(above.iter().filter(|row| !is_pseudo(**row)).map(|row| layout.ids[*row]));
    }

    /// What is reached of a tensor `[rows, columns]`, of the first three kinds and the last; `None` of others.
    fn mask(&self, spec: &ModelSpec, name: &str, [rows, columns]: [usize; 2]) -> Option<Vec<bool>> {
        let (table, head) = (&spec.embeddings, &spec.head);
        let has_logit = |token: usize| self.columns.as_ref().is_none_or(|ids| ids.contains(&(token as u32)));
        let tied = head.decoder.is_none();
        let each = |reached: &dyn Fn(usize, usize) -> bool| {
            Some((0..rows * columns).map(|i| reached(i / columns, i % columns)).collect())
        };
        let is = |other: Option<&String>| other.is_some_and(|other| other == name);
        let layer_of = |column: usize| column / (spec.past_width() / spec.layers.len());
        let in_prefix = |layer: usize| self.prefix.iter().any(|(reached, _)| *reached == layer);
        match name {
            _ if name == table.words => each(&|row, _| self.tokens.contains(&(row as u32)) || tied && has_logit(row)),
            _ if is(table.position_table.as_ref()) => {
                each(&|row, _| row >= table.first_position && self.positions.contains(&(row - table.first_position)))
            }
            _ if is(table.token_types.as_ref().map(|(name, _)| name)) => each(&|row, _| row == 0),
            _ if is(head.decoder.as_ref()) => each(&|row, _| has_logit(row)),
            _ if is(head.decoder_bias.as_ref()) => each(&|_, column| has_logit(column)),
            "prefix.embedding.weight" if columns == spec.past_width() => {
                each(&|row, column| self.prefix.contains(&(layer_of(column), row)))
            }
            "prefix.transform.2.weight" => each(&|row, _| in_prefix(layer_of(row))),
            "prefix.transform.2.bias" => each(&|_, column| in_prefix(layer_of(column))),
            _ => None,
        }
    }
}

/// The layers before and behind each relu.
fn relus(spec: &ModelSpec, moments: &Moments) -> Vec<(String, Option<String>)> {
    let is_relu = |activation: Activation| activation == Activation::Relu;
    let mut relus = Vec::new();
    for block in spec.blocks.iter().filter(|block| is_relu(block.mlp.activation)) {
        relus.push((block.mlp.up.name.clone(), Some(block.mlp.down.name.clone())));
    }
    if let Some(transform) = spec.head.transform.as_ref().filter(|transform| is_relu(transform.activation)) {
        relus.push((transform.dense.name.clone(), None)); // a norm follows: what is zero is not zero behind it
    }
    if spec.classifier.dense.as_ref().is_some_and(|ClassifierDense { activation, .. }| is_relu(*activation)) {
        relus.push(("classifier.dense".into(), Some("classifier".into())));
    }
    let mut encoder: Vec<&str> = moments.names().filter_map(|name| name.strip_suffix(".weight")).collect();
    encoder.retain(|name| name.starts_with("mlp_head."));
    encoder.sort_unstable();
    relus.extend(encoder.windows(2).map(|pair| (pair[0].to_owned(), Some(pair[1].to_owned()))));
    relus.retain(|(before, _)| moments.names().any(|name| name == format!("{before}.bias")));
    relus
}

/// The run file's state after some steps.
pub(crate) fn check(what: &str, config: &RunConfig, file: &Path, state: &Path) {
    let directory = ModelDirectory::open(&config.model).expect("a model directory");
    let spec = ModelSpec::read(&directory).expect("its spec");
    let reach = Reach::of(&spec, config, file);
    let moments = Moments(Weights::open_file(state).expect("a state"));
    assert!(moments.names().next().is_some(), "{what}: nothing is trained");
    let relus = relus(&spec, &moments);
    for name in moments.names() {
        let (shape, reached) = moments.reached(name);
        let mut wanted = reach.mask(&spec, name, shape).unwrap_or_else(|| vec![true; reached.len()]);
        for (before, behind) in &relus {
            let (_, alive) = moments.reached(&format!("{before}.bias"));
            let count = alive.iter().filter(|alive| **alive).count();
            assert!(4 * count >= alive.len(), "{what}: {count} of {} units of {before} are alive", alive.len());
            let is = |layer: &str, part: &str| name.strip_suffix(part).is_some_and(|name| name == layer);
            for (i, wanted) in wanted.iter_mut().enumerate() {
                let (row, column) = (i / shape[1], i % shape[1]);
                let unit = match () {
                    () if is(before, ".weight") => row,
                    () if is(before, ".bias") => column,
                    () if behind.as_ref().is_some_and(|behind| is(behind, ".weight")) => column,
                    () => continue,
                };
                *wanted &= alive[unit];
            }
        }
        let wrong = reached.iter().zip(&wanted).position(|(reached, wanted)| reached != wanted);
        if let Some(i) = wrong {
            let (row, column) = (i / shape[1], i % shape[1]);
            let found = if reached[i] { "has a gradient, against what is known of it" } else { "has no gradient" };
            panic!("{what}: {name} {shape:?}: row {row}, column {column} {found}");
        }
    }
}
