//! The binary `ptune`: teach a frozen language model many small tasks.
//!
//! `main` only chooses the command and turns an error into a sentence and an exit status: 0 done, 1 the work failed
//! (a full disk), 2 the request was wrong (a file, a flag, a key). Each command has its own file.
#![allow(clippy::print_stdout, clippy::print_stderr)] // commands talk to people

mod adapter;
mod bench;
mod bundle;
mod demo;
mod evaluate;
mod generate;
mod hub;
mod inspect;
mod lines;
mod merge;
mod predict;
mod pretrain;
mod progress;
mod prompts;
mod report;
mod run_file;
mod search;
mod seeds;
mod sensitivity;
mod signals;
mod train;
mod world;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ptune::Device;
use report::error_text;

/// Teach a frozen language model many small tasks, each a few kilobytes (P-tuning).
#[derive(Parser)]
#[command(name = "ptune", version, max_term_width = 110, long_about = ABOUT, after_long_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Threads to compute with; results do not depend on it [default: all that this process may use]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

const ABOUT: &str = "\
Teach a frozen language model many small tasks, each a few kilobytes (P-tuning).

A task is a template with pseudo tokens, such as \"[P*3] {text} It was [MASK].\", a few labelled rows, and a model \
directory in Hugging Face layout. \"train\" learns the pseudo tokens' vectors and leaves the model alone; the result \
is an adapter, a directory of a few kilobytes that \"eval\", \"predict\" and \"generate\" use.";

const EXAMPLES: &str = "\
The whole idea, without a model, data or a network:
  ptune demo

From nothing to answers:
  ptune train run.toml --out runs/first
  ptune inspect runs/first
  ptune eval runs/first/adapter --data test.jsonl
  ptune predict runs/first/adapter --field text=\"the soup was cold\"

Exit status: 0 done, 1 the work failed (a full disk), 2 the request was wrong (a file, a flag, a key).";

#[derive(Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Train(train::Arguments),
    Eval(evaluate::Arguments),
    Predict(predict::Arguments),
    Generate(generate::Arguments),
    Inspect(inspect::Arguments),
    Adapter(adapter::Arguments),
    Bench(bench::Arguments),
    Search(search::Arguments),
    Sensitivity(sensitivity::Arguments),
    Pretrain(pretrain::Arguments),
    World(world::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let threads = arguments.threads.map(usize::from);
    let done = match &arguments.command {
        Command::Demo(arguments) => demo::run(arguments, &Device::processor(threads)),
        Command::Train(arguments) => train::run(arguments, threads),
        Command::Eval(arguments) => evaluate::run(arguments, &Device::processor(threads)),
        Command::Predict(arguments) => predict::run(arguments, &Device::processor(threads)),
        Command::Generate(arguments) => generate::run(arguments, &Device::processor(threads)),
        Command::Inspect(arguments) => inspect::run(arguments, &Device::processor(threads)),
        Command::Adapter(arguments) => adapter::run(arguments, &Device::processor(threads)),
        Command::Bench(arguments) => bench::run(arguments, threads),
        Command::Search(arguments) => search::run(arguments, threads),
        Command::Sensitivity(arguments) => sensitivity::run(arguments, threads),
        Command::Pretrain(arguments) => pretrain::run(arguments, threads),
        Command::World(arguments) => world::run(arguments),
    };
    match done {
        Ok(status) => status,
        Err(error) => {
            // Standard error may be closed; there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "ptune: {}", error_text(&error.to_string()));
            ExitCode::from(status_of(&error))
        }
    }
}

/// 2 when the request was wrong, 1 when the work failed.
fn status_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<ptune::Error>() {
        Some(error) if error.is_request() => 2,
        _ => 1,
    }
}
