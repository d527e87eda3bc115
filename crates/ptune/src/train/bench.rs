//! How fast a run would be on this machine, and where its time goes. Nothing is written.
//!
//! Training goes through whole epochs of the run file's training rows, in the order of the file and in batches of its
//! size, after a few steps that are not counted; evaluation through its test rows (or dev, or else training rows). What
//! is trained is thrown away. The peak is this machine's own, measured in the same call.

use std::path::Path;
use std::time::Instant;

use crate::data::Dataset;
use crate::method::Head;
use crate::model::Gradients;
use crate::profile::Spent;
use crate::tensor::Device;
use crate::train::batches::{Batches, Rows};
use crate::train::config::RunConfig;
use crate::train::evaluate::Scorer;
use crate::train::prepare::{Prepared, load_model, new_trained};
use crate::train::{Batch, Event, Learner, Order, Recipe, Trainer, diverged};
use crate::{Error, Result};

/// Steps before the first that counts: buffers are made, caches filled, the processor's clock settles.
const WARM_UP_STEPS: usize = 3;
/// Epochs are repeated until they take this long together.
const LEAST_SECONDS: f64 = 3.0;

/// What a run file came to.
pub struct Bench {
    /// Training; `None` for a manual prompt, which trains nothing.
    pub training: Option<Speed>,
    /// Evaluation.
    pub evaluation: Speed,
    /// Numbers of the model.
    pub model_parameters: usize,
}

/// Whole epochs of training or evaluation.
pub struct Speed {
    /// Examples, each as often as it was computed.
    pub examples: usize,
    /// Epochs.
    pub epochs: usize,
    /// Training steps; evaluations of the whole file.
    pub steps: usize,
    /// Seconds, packing of the rows included.
    pub seconds: f64,
    /// Where the seconds went; what is missing in the sum was spent outside of kernels.
    pub operations: Vec<Spent>,
}

/// What this machine can do, in GFLOP/s (a multiply-add counts two).
pub struct Peak {
    /// Multiply-adds in registers on all threads: no product can be faster.
    pub multiply_add: f64,
    /// A large product: 768 rows with a weight 768 x 3072, again and again.
    pub large_product: f64,
}

impl Speed {
    /// Examples a second.
    pub fn examples_per_s(&self) -> f64 {
        self.examples as f64 / self.seconds.max(1e-9)
    }

    /// GFLOP/s: the products with the model's weights over the whole time, whatever else was done in it.
    pub fn gflops(&self) -> f64 {
        self.operations.iter().map(|spent| spent.flops).sum::<f64>() / self.seconds.max(1e-9) * 1e-9
    }
}

/// Measures a run file on `device`, which must have a profile ([`Device::with_profile`]). `epochs` fixes the number of
/// epochs; without it they are repeated for about three seconds.
///
/// # Errors
/// Whatever [`run`](crate::train::run()) refuses; a device without a profile.
pub fn bench(
    config: &RunConfig,
    file: &Path,
    device: &Device,
    epochs: Option<usize>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Bench> {
    let prepared = Prepared::read(config, file, observe)?;
    let Prepared { directory, config, task, start, data, gradients, .. } = prepared;
    let trains = gradients != Gradients::None || matches!(task.head, Head::Classifier(_));
    let device = &device.with_precision(config.compute.precision());
    let loading = &mut |done, total| observe(Event::Loading { done, total });
    let model = load_model(&directory, &task, device, gradients, loading)?;
    let trained = new_trained(&config, file, device, &model, &directory, &task, &start)?;
    let head = &task.head;
    let batches = Batches::new(&config, &task, &model, &data.train.examples, 1);
    let (mut trainer, mut learners) = Trainer::new(model, vec![(trained, head, Recipe::of(&config.train))], device);
    let learner = &mut learners[0];
    let training = if trains {
        Some(training(&mut trainer, learner, batches, &data.train, &config, epochs, observe)?)
    } else {
        None
    };
    let (model, columns) = (&trainer.model, &trainer.columns);
    let prompt = &learner.prompt.forward(device, model);
    let (classifier, additions, column_ids) =
        (learner.classifier.as_ref(), learner.additions.as_ref(), head.columns(true));
    let scorer = Scorer { device, model, columns, column_ids, head, prompt, classifier, additions, weights: &[] };
    let rows = data.test.as_ref().or(data.dev.as_ref()).unwrap_or(&data.train);
    let evaluation = evaluation(&scorer, rows, epochs, observe)?;
    Ok(Bench { training, evaluation, model_parameters: model.count() })
}

/// Whether another epoch is due.
fn goes_on(done: usize, epochs: Option<usize>, start: Instant) -> bool {
    done == 0 || epochs.map_or_else(|| start.elapsed().as_secs_f64() < LEAST_SECONDS, |epochs| done < epochs)
}

fn training(
    trainer: &mut Trainer<'_>,
    learner: &mut Learner<'_>,
    mut batches: Batches<'_>,
    data: &Dataset,
    config: &RunConfig,
    epochs: Option<usize>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Speed> {
    let (rows, device) = (&data.examples, trainer.device);
    let steps = Order::batches_per_epoch(rows.len(), config.train.batch_size);
    let mut order = Order::new(rows.len(), config.train.batch_size, None);
    let mut step = |order: &mut Order, done: usize| -> Result<f64> {
        let rows = [Rows { seed: config.seed, step: done, numbers: order.next_batch() }];
        let packed = batches.pack(&trainer.model, device, &rows).into_iter();
        let batch = packed.map(|(layout, targets)| Batch { layout, targets, share: 1.0 }).collect();
        let loss = trainer.step(&mut [&mut *learner], batch, batches.past())[0];
        if loss.is_finite() { Ok(loss) } else { Err(diverged(done)) }
    };
    for done in 0..WARM_UP_STEPS.min(steps) {
        step(&mut order, done)?;
    }
    let mut order = Order::new(rows.len(), config.train.batch_size, None);
    let profile = profile(device)?;
    profile.reset();
    let (start, mut done) = (Instant::now(), 0);
    while goes_on(done, epochs, start) {
        for at in 0..steps {
            let loss = step(&mut order, done * steps + at)?;
            let examples_per_s = (done * rows.len()) as f64 / start.elapsed().as_secs_f64().max(1e-9);
            observe(Event::Step { seed: config.seed, step: at + 1, steps, loss, examples_per_s, dev: None });
        }
        done += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Speed { examples: done * rows.len(), epochs: done, steps: done * steps, seconds, operations: profile.spent() })
}

fn evaluation(
    scorer: &Scorer<'_>,
    data: &Dataset,
    epochs: Option<usize>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Speed> {
    let profile = profile(scorer.device)?;
    let mut progress = |done, total| {
        observe(Event::Evaluating { done, total });
        Ok(())
    };
    profile.reset();
    let (start, mut done) = (Instant::now(), 0);
    while goes_on(done, epochs, start) {
        scorer.evaluate(data, &mut progress)?;
        done += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let examples = done * data.examples.len();
    Ok(Speed { examples, epochs: done, steps: done, seconds, operations: profile.spent() })
}

fn profile(device: &Device) -> Result<&crate::profile::Profile> {
    device.profile().ok_or_else(|| Error::request("a device without a profile cannot tell where its time goes"))
}

/// Measures what this machine can do, in about half a second. It uses some 30 MB.
pub fn peak(device: &Device) -> Peak {
    const ROWS: usize = 768;
    const INPUTS: usize = 768;
    const OUTPUTS: usize = 3072;
    const TURNS: usize = 1_000_000;
    let mut operations = 0.0;
    let registers = best_of(|| operations = device.multiply_add_peak(TURNS));
    let weight = device.pack_linear(&vec![0.5; INPUTS * OUTPUTS], None, OUTPUTS, INPUTS, false);
    let x = device.upload(ROWS, INPUTS, &vec![0.25; ROWS * INPUTS]);
    let product = best_of(|| drop(device.linear(&x, &weight)));
    Peak {
        multiply_add: operations / registers * 1e-9,
        large_product: 2.0 * (ROWS * INPUTS * OUTPUTS) as f64 / product * 1e-9,
    }
}

/// Seconds of the fastest call within a quarter of a second.
fn best_of(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while best.is_infinite() || start.elapsed().as_secs_f64() < 0.25 {
        let at = Instant::now();
        call();
        best = best.min(at.elapsed().as_secs_f64());
    }
    best.max(1e-9)
}
