//! `ptune bench RUN.toml`: how fast this machine trains and evaluates, and where the time goes. Writes nothing.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;
use ptune::Device;
use ptune::train::Event;
use ptune::train::bench::{Bench, Peak, Speed, bench, peak};
use serde_json::{Value, json};

use crate::progress::Progress;
use crate::report::{peak_rss_mb, print};
use crate::run_file::RunFile;

/// Measure training and evaluation speed of a run file
///
/// Trains whole epochs of the training rows in file order and evaluates the test (else dev, else training) rows; prints
/// examples a second, the time of each kind of operation, what the products reach of this machine's own multiply-add
/// peak, and the peak memory. Nothing is written, and what was trained is thrown away. A manual prompt is only evaluated.
#[derive(clap::Args)]
#[command(after_long_help = "Example:\n  ptune bench run.toml --epochs 3")]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: RunFile,
    /// Whole epochs to measure [default: as many as take about three seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    epochs: Option<u16>,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, threads: Option<usize>) -> Result<ExitCode> {
    let file = &arguments.file;
    file.refuse_directory()?;
    let config = file.read()?;
    let device = Device::processor(threads.or(config.threads)).with_profile();
    let mut progress = Progress::new();
    let epochs = arguments.epochs.map(usize::from);
    let measured = bench(&config, &file.run, &device, epochs, &mut |event| match event {
        Event::Loading { done, total } => progress.update("loading", done, total, ""),
        Event::Note(text) => progress.line(text),
        Event::Step { step, steps, .. } => progress.update("training", step, steps, ""),
        Event::Evaluating { done, total } => progress.update("evaluating", done, total, ""),
        Event::Trained { .. } | Event::Evaluated { .. } => {}
    });
    progress.clear();
    let measured = measured?;
    let memory = peak_rss_mb(); // before the peak, which needs some of its own
    let peak = peak(&device.with_precision(config.compute.precision()));
    let compute = config.compute.name();
    print(&if arguments.json {
        to_json(&measured, &peak, compute, memory).to_string()
    } else {
        let header = format!("{compute}, {}, {} threads", device.instruction_set(), device.threads());
        to_text(&measured, &peak, &header, memory)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The part whose operations are reported: a training step, or for a manual prompt an evaluation.
fn main_part(measured: &Bench) -> &Speed {
    measured.training.as_ref().unwrap_or(&measured.evaluation)
}

fn to_json(measured: &Bench, peak: &Peak, compute: &str, memory: Option<u64>) -> Value {
    let part = main_part(measured);
    let operation = |(name, seconds, flops): (&str, f64, f64)| {
        let gflops = (flops > 0.0).then(|| rounded(flops / seconds * 1e-9));
        json!({"name": name, "seconds": rounded(seconds), "share": rounded(seconds / part.seconds), "gflops": gflops})
    };
    json!({
        "compute": compute,
        "train_examples_per_s": measured.training.as_ref().map(|speed| rounded(speed.examples_per_s())),
        "eval_examples_per_s": rounded(measured.evaluation.examples_per_s()),
        "step_gflops": rounded(part.gflops()),
        "matmul_peak_gflops": rounded(peak.multiply_add),
        "peak_rss_mb": memory,
        "operations": rows(part).into_iter().map(operation).collect::<Vec<_>>(),
    })
}

/// Name, seconds and floating-point operations of each kind, and of what was done outside of kernels.
fn rows(part: &Speed) -> Vec<(&'static str, f64, f64)> {
    let mut rows: Vec<_> = part.operations.iter().map(|s| (s.operation.name(), s.seconds, s.flops)).collect();
    let other = part.seconds - rows.iter().map(|row| row.1).sum::<f64>();
    rows.push(("other", other.max(0.0), 0.0));
    rows
}

fn rounded(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}

fn to_text(measured: &Bench, peak: &Peak, header: &str, memory: Option<u64>) -> String {
    let part = main_part(measured);
    let share = |gflops: f64| 100.0 * gflops / peak.multiply_add;
    let speed = |speed: &Speed| {
        let (examples, epochs) = (speed.examples / speed.epochs, speed.epochs);
        format!("{:.1} examples/s   ({examples} examples x {epochs}, {:.2} s)", speed.examples_per_s(), speed.seconds)
    };
    let mut text = format!("{header}; a model of {} numbers\n", measured.model_parameters);
    let training = measured.training.as_ref().map_or("none: a manual prompt has nothing to train".into(), speed);
    let memory = memory.map_or("not known here".into(), |mb| format!("{mb} MB at most"));
    let (large, whole) = (peak.large_product, part.gflops());
    let lines = [
        ("training", training),
        ("evaluation", speed(&measured.evaluation)),
        ("memory", memory),
        ("peak", format!("{:.1} GFLOP/s of multiply-adds; a large product {large:.1}", peak.multiply_add)),
        ("products", format!("{whole:.1} GFLOP/s over the whole time, {:.0} % of the peak", share(whole))),
    ];
    for (name, line) in lines {
        let _ = writeln!(text, "{name:<12}{line}");
    }
    let what = if measured.training.is_some() { "training step" } else { "evaluation" };
    let _ = write!(text, "\n{:<20}{:>10}{:>8}{:>11}{:>10}", format!("one {what}"), "ms", "%", "GFLOP/s", "of peak");
    for (name, seconds, flops) in rows(part) {
        let (ms, percent) = (1e3 * seconds / part.steps as f64, 100.0 * seconds / part.seconds);
        let _ = write!(text, "\n{name:<20}{ms:>10.3}{percent:>8.1}");
        if flops > 0.0 {
            let gflops = flops / seconds * 1e-9;
            let _ = write!(text, "{gflops:>11.1}{:>8.0} %", share(gflops));
        }
    }
    let _ = write!(text, "\n{:<20}{:>10.3}{:>8.1}", "total", 1e3 * part.seconds / part.steps as f64, 100.0);
    text
}
