//! What a model drops in a batch while it trains.

use ptune_kernels::{self as kernels, SpanKey};

use super::Layout;
use crate::profile::Operation;
use crate::tensor::{Device, Tensor};

/// Dropout of one batch. What is dropped follows from the span's key, the place in the model, and the row and column
/// within, never from the place of a span in its batch.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// Share of the numbers that is set to zero, above 0 and below 1.
    pub probability: f32,
    /// For each span the seed of its run and step, and a number that goes with its example.
    pub span_keys: Vec<SpanKey>,
}

impl Layout {
    /// The same with dropout: `seed` is that of the run and the step, `examples` are the numbers of the batch's examples, in its order. No dropout where
    /// `probability` is 0.
    pub fn with_dropout(mut self, probability: f32, seed: u64, examples: &[usize]) -> Layout {
        // Every example of a task has as many spans.
        let spans = self.spans.len().checked_div(examples.len()).unwrap_or(0);
        let key = move |example: usize, span: u64| SpanKey { seed, key: (example as u64) << 16 | span };
        let keys = |&example: &usize| (0..spans as u64).map(move |span| key(example, span));
        let span_keys = || examples.iter().flat_map(keys).collect();
        self.dropout = (probability > 0.0).then(|| Dropout { probability, span_keys: span_keys() });
        self
    }

    /// The dropout of one place in a model.
    pub(super) fn dropout_at(&self, layer: u32) -> Option<kernels::Dropout<'_>> {
        let Dropout { probability, span_keys } = self.dropout.as_ref()?;
        Some(kernels::Dropout { probability: *probability, layer, span_keys })
    }
}

impl Device {
    /// Dropout of `x`, whose rows stand in the rows `rows` of the batch, in place; nothing where the batch asks for none.
    pub(crate) fn dropout(&self, x: &mut Tensor, rows: &[u32], layout: &Layout, site: u32) {
        if let Some(dropout) = layout.dropout_at(site) {
            let columns = x.columns();
            kernels::dropout_rows(
                &self.doing(Operation::Dropout),
                x.data_mut(),
                columns,
                rows,
                &layout.spans,
                &dropout,
            );
        }
    }

    /// The gradient of what [`Device::dropout`] was given; `None` where it is `d_y` itself.
    pub(crate) fn dropout_backward(&self, d_y: &Tensor, rows: &[u32], layout: &Layout, site: u32) -> Option<Tensor> {
        layout.dropout.as_ref()?;
        let mut d_x = self.copy(d_y);
        self.dropout(&mut d_x, rows, layout, site);
        Some(d_x)
    }
}
