//! What is one prompt's own while it is trained: encoder, low-rank additions, head and optimiser, and its batch of a step. Here the batches
//! of several learners become one for the model, and its logits become the loss of each.

use std::ops::Range;

use super::Optimizer;
use crate::method::{Classifier, Head, Loss, Prompt};
use crate::model::{Additions, Columns, LoraRows, Model};
use crate::ops::{Layout, Part};
use crate::parameter::Parameter;
use crate::tensor::{Device, Tensor};

/// A prompt in training, perhaps with a classifier.
pub struct Learner<'a> {
    /// The prompt.
    pub prompt: Prompt,
    /// What turns rows of the model into scores of labels, where the head is a classifier.
    pub classifier: Option<Classifier>,
    /// Low-rank additions to the model, for its rows alone.
    pub additions: Option<Additions>,
    /// What turns logits into its loss.
    pub head: &'a Head,
    /// The columns of the logits that its head reads.
    pub(super) columns: Range<usize>,
    /// Its optimiser; where the model is trained along, of the model too.
    pub optimizer: Optimizer,
}

/// What a learner sees in a step.
pub struct Batch {
    /// Packed rows; their pseudo tokens show rows of the learner's own prompt.
    pub layout: Layout,
    /// The target of each example: an index of a label, or a token id when probing. Of texts, that of each answer row.
    pub targets: Vec<u32>,
    /// The share of each group's learning rate that the schedule gives.
    pub share: f64,
}

/// The losses of a step.
pub(super) struct Losses {
    /// The mean over the examples, of each learner.
    pub(super) means: Vec<f64>,
    /// The gradient of the logits of all, each from its own mean.
    pub(super) d_logits: Tensor,
}

impl Learner<'_> {
    /// Everything that it trains, in the optimiser's order; `model` is the trainer's.
    pub fn parameters<'s>(&'s self, model: &'s Model) -> impl Iterator<Item = &'s Parameter> {
        let classifier = self.classifier.iter().flat_map(Classifier::parameters);
        let additions = self.additions.iter().flat_map(Additions::parameters);
        self.prompt.parameters().chain(classifier).chain(additions).chain(model.parameters())
    }

    /// Everything that training changes, by name: each parameter and its two moments. Equal names in equal order are all
    /// that a state asks for.
    pub(super) fn tensors<'s>(&'s self, model: &'s Model) -> Vec<(String, &'s Tensor)> {
        let parameters = self.parameters(model).zip(self.optimizer.moments());
        let named = parameters.flat_map(|(parameter, [first, second])| {
            names(&parameter.name).into_iter().zip([&parameter.value, first, second])
        });
        named.collect()
    }

    /// The same, to fill them.
    pub(super) fn tensors_mut<'s>(&'s mut self, model: &'s mut Model) -> Vec<(String, &'s mut Tensor)> {
        let classifier = self.classifier.iter_mut().flat_map(Classifier::parameters_mut);
        let additions = self.additions.iter_mut().flat_map(Additions::parameters_mut);
        let parameters = self.prompt.parameters_mut().chain(classifier).chain(additions).chain(model.parameters_mut());
        let named = parameters.zip(self.optimizer.moments_mut()).flat_map(|(parameter, [first, second])| {
            names(&parameter.name).into_iter().zip([&mut parameter.value, first, second])
        });
        named.collect()
    }

    /// The loss on its part of the logits and their gradient; a classifier's gradients are written.
    fn loss(&mut self, device: &Device, logits: Tensor, groups: Vec<usize>, targets: &[u32]) -> Loss {
        let Some(classifier) = &mut self.classifier else { return self.head.loss(device, &logits, targets) };
        let (scores, saved) = classifier.forward(device, logits, groups);
        let loss = self.head.loss(device, &scores, targets);
        Loss { mean: loss.mean, d_logits: classifier.backward(device, &loss.d_logits, &saved) }
    }

    /// One step of the optimiser, from the gradients of the last backward.
    pub(super) fn optimize(&mut self, device: &Device, model: &mut Model, share: f64) {
        let classifier = self.classifier.iter_mut().flat_map(Classifier::parameters_mut);
        let additions = self.additions.iter_mut().flat_map(Additions::parameters_mut);
        let parameters = self.prompt.parameters_mut().chain(classifier).chain(additions).chain(model.parameters_mut());
        self.optimizer.step(device, parameters, share);
        self.additions.iter_mut().for_each(Additions::repack);
    }
}

/// The names of a parameter and its moments in a state.
fn names(parameter: &str) -> [String; 3] {
    [parameter.into(), format!("{parameter}.moment1"), format!("{parameter}.moment2")]
}

/// The columns of a model's logits that all these heads need, and those of each: classifiers, which read rows, are by
/// themselves.
pub(super) fn columns_for<'h>(
    heads: impl IntoIterator<Item = &'h Head>,
    model: &Model,
    gradient: bool,
) -> (Columns, Vec<Range<usize>>) {
    let heads: Vec<&Head> = heads.into_iter().collect();
    let classifiers = heads.iter().filter(|head| matches!(head, Head::Classifier(_))).count();
    if classifiers > 0 {
        assert_eq!(classifiers, heads.len(), "classifiers share a pass with classifiers only: others read logits");
        let columns = model.row_columns();
        return (model.row_columns(), vec![0..columns.count(); classifiers]);
    }
    let (ids, places) = columns_of(heads, model.spec().vocabulary);
    (model.columns(ids.as_deref(), gradient), places)
}

/// The token ids of the logits' columns that all these heads need (`None`: the whole vocabulary), and the columns of
/// each. Different ones stand behind one another, each head's in its own order: a sum over columns then runs over a
/// head's own as it does alone, and over zeros.
fn columns_of<'h>(
    heads: impl IntoIterator<Item = &'h Head>,
    vocabulary: usize,
) -> (Option<Vec<u32>>, Vec<Range<usize>>) {
    let mut different: Vec<(Option<&[u32]>, Range<usize>)> = Vec::new();
    let mut columns = Vec::new();
    for head in heads {
        let ids = head.columns(true);
        let known = different.iter().find(|(known, _)| *known == ids).map(|(_, columns)| columns.clone());
        columns.push(known.unwrap_or_else(|| {
            let start = different.last().map_or(0, |(_, columns)| columns.end);
            let new = start..start + ids.map_or(vocabulary, <[u32]>::len);
            different.push((ids, new.clone()));
            new
        }));
    }
    let everything: Vec<u32> = (0..vocabulary as u32).collect();
    let ids = match different.as_slice() {
        [(ids, _)] => ids.map(<[u32]>::to_vec),
        several => Some(several.iter().flat_map(|(ids, _)| ids.unwrap_or(&everything)).copied().collect()),
    };
    (ids, columns)
}

/// Batches as one.
pub(super) struct Joined {
    pub(super) layout: Layout,
    /// The rows of each.
    pub(super) rows: Vec<Range<usize>>,
    /// Which part of the logits is whose.
    pub(super) parts: Vec<Part>,
    /// The rows of each example where a classifier reads their mean.
    pub(super) groups: Vec<Vec<usize>>,
}

/// The batches as one. Their own layouts are used up.
pub(super) fn join(learners: &[&mut Learner<'_>], batches: &mut [Batch]) -> Joined {
    assert_eq!(learners.len(), batches.len(), "a batch for each learner");
    let mut parts = Part::stacked(batches.iter().map(|batch| batch.layout.targets.len()), 0);
    for (part, learner) in parts.iter_mut().zip(learners) {
        part.columns = learner.columns.clone();
    }
    let rows = Part::stacked(batches.iter().map(|batch| batch.layout.rows()), 0).into_iter().map(|part| part.rows);
    let rows = rows.collect();
    let groups = learners.iter().zip(&*batches).map(|(learner, batch)| {
        learner.classifier.as_ref().map_or_else(Vec::new, |classifier| classifier.groups(&batch.layout))
    });
    let groups = groups.collect();
    let layouts = batches.iter_mut().map(|batch| std::mem::take(&mut batch.layout));
    let own = learners.iter().map(|learner| [learner.prompt.rows(), learner.prompt.prefix_rows()]);
    Joined { layout: Layout::join(layouts.zip(own)), rows, parts, groups }
}

/// The low-rank additions of those that have any, each to its own rows; `rows` are where those of each begin and end.
pub(super) fn lora_rows<'s>(learners: &'s [&mut Learner<'_>], rows: &[Range<usize>]) -> Vec<LoraRows<'s>> {
    let each = learners.iter().zip(rows);
    each.filter_map(|(learner, rows)| Some(LoraRows { rows: rows.clone(), additions: learner.additions.as_ref()? }))
        .collect()
}

/// Hands the gradients of a pass's low-rank additions to the learners that have any.
pub(super) fn take_gradients(learners: &mut [&mut Learner<'_>], gradients: Vec<Vec<Tensor>>) {
    let each = learners.iter_mut().filter_map(|learner| learner.additions.as_mut());
    for (additions, gradients) in each.zip(gradients) {
        let parameters = additions.parameters_mut().iter_mut();
        parameters.zip(gradients).for_each(|(parameter, gradient)| parameter.gradient = gradient);
    }
}

/// The loss of each learner on its part of the logits.
pub(super) fn losses(
    device: &Device,
    logits: Tensor,
    (parts, groups): (&[Part], Vec<Vec<usize>>),
    learners: &mut [&mut Learner<'_>],
    batches: &[Batch],
) -> Losses {
    let (rows, columns) = (logits.rows(), logits.columns());
    let (mut means, mut d_logits) = (Vec::new(), Vec::new());
    let logits = device.split(logits, parts).into_iter().zip(groups);
    for ((learner, batch), (logits, groups)) in learners.iter_mut().zip(batches).zip(logits) {
        let loss = learner.loss(device, logits, groups, &batch.targets);
        means.push(loss.mean);
        d_logits.push(loss.d_logits);
    }
    Losses { means, d_logits: device.join(d_logits, parts, rows, columns) }
}
