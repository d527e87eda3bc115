//! Speed of the products of a layer: GFLOP/s by shape, instruction set and threads, beside the peak of a loop
//! over registers. `warm`: one weight again and again; `cold`: a new one each time, out of 256 MB of them, as in a
//! training step. Best of many. `gradient` is the product that gives a weight its gradient. In f32, then in bf16: rows
//! in, rows out.
//!
//! `cargo run --release -p ptune-kernels --example matmul_speed [-- ISA [ROWS [f32|bf16]]]`
#![allow(clippy::print_stdout)]

use std::time::Instant;

use ptune_kernels::{
    Context, Isa, Rows, RowsMut, Weight, bf16_multiply_add_peak, matmul, matmul_backward_input, matmul_backward_weight,
    matmul_backward_weight_scratch_len, multiply_add_peak,
};

/// Rows, inputs, outputs, backward.
const SHAPES: [(usize, usize, usize, bool); 25] = [
    (8, 384, 384, false),
    (8, 384, 1536, false),
    (8, 768, 768, false),
    (8, 768, 3072, false),
    (8, 3072, 768, false),
    (8, 768, 30522, false),
    (8, 768, 30522, true),
    (8, 384, 30522, false),
    (24, 768, 768, false),
    (72, 384, 384, false),
    (72, 384, 1536, false),
    (72, 1536, 384, false),
    (72, 768, 768, false),
    (72, 768, 3072, false),
    (72, 3072, 768, false),
    (120, 384, 384, false),
    (120, 768, 768, false),
    (120, 768, 3072, false),
    (120, 3072, 768, false),
    (120, 768, 768, true),
    (256, 768, 768, false),
    (650, 768, 768, false),
    (650, 768, 3072, false),
    (650, 3072, 768, false),
    (650, 3072, 768, true),
];

/// Seconds of the fastest call.
fn best_of(seconds: f64, mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    let mut turns = 0;
    while start.elapsed().as_secs_f64() < seconds || turns < 3 {
        let at = Instant::now();
        f();
        best = best.min(at.elapsed().as_secs_f64());
        turns += 1;
    }
    best
}

/// What the weights are packed as.
#[derive(Clone, Copy, PartialEq)]
enum Precision {
    F32,
    Bf16,
}

/// GFLOP/s of the loop over registers.
fn peak(ctx: &Context, precision: Precision) -> f64 {
    let run = if precision == Precision::F32 { multiply_add_peak } else { bf16_multiply_add_peak };
    let turns = 2_000_000;
    let seconds = best_of(0.2, || {
        run(ctx, turns);
    });
    run(ctx, turns) / seconds / 1e9
}

/// GFLOP/s of a shape.
fn measure(
    ctx: &Context,
    (rows, inputs, outputs, backward): (usize, usize, usize, bool),
    precision: Precision,
    cold: bool,
) -> f64 {
    let numbers = vec![0.5f32; inputs * outputs];
    let bytes = if precision == Precision::F32 { 4 } else { 2 };
    let copies = if cold { (256 << 20) / (bytes * numbers.len()) + 1 } else { 1 };
    let pack = if precision == Precision::F32 { Weight::pack } else { Weight::pack_bf16 };
    let weights: Vec<Weight> = (0..copies).map(|_| pack(ctx, &numbers, outputs, inputs, backward)).collect();
    let dtype = weights[0].dtype();
    let (mut x, mut y) = (vec![0.25f32; rows * dtype.stride(inputs)], vec![0.25f32; rows * dtype.stride(outputs)]);
    let seconds = best_of(0.1, || {
        for w in &weights {
            if backward {
                matmul_backward_input(ctx, RowsMut::new(dtype, &mut x), Rows::new(dtype, &y), w);
            } else {
                matmul(ctx, RowsMut::new(dtype, &mut y), Rows::new(dtype, &x), w, None);
            }
        }
    });
    2.0 * (rows * inputs * outputs * copies) as f64 / seconds / 1e9
}

/// Rows, inputs, outputs of a weight's gradient.
const GRADIENTS: [(usize, usize, usize); 5] =
    [(8, 768, 768), (650, 384, 384), (650, 768, 768), (650, 768, 3072), (650, 3072, 768)];

/// GFLOP/s of a weight's gradient. Cold: another gradient is written each time.
fn measure_gradient(ctx: &Context, (rows, inputs, outputs): (usize, usize, usize), cold: bool) -> f64 {
    let numbers = inputs * outputs;
    let copies = if cold { (256 << 20) / (4 * numbers) + 1 } else { 1 };
    let mut gradients = vec![vec![0f32; numbers]; copies];
    let (x, d_y) = (vec![0.25f32; rows * inputs], vec![0.25f32; rows * outputs]);
    let mut scratch = vec![0f32; matmul_backward_weight_scratch_len(ctx, rows, outputs, inputs)];
    let seconds = best_of(0.1, || {
        for d_w in &mut gradients {
            matmul_backward_weight(ctx, d_w, &d_y, &x, outputs, inputs, &mut scratch);
        }
    });
    2.0 * (rows * numbers * copies) as f64 / seconds / 1e9
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let rows_only = wanted.get(1).and_then(|rows| rows.parse::<usize>().ok());
    for isa in Isa::available() {
        for (precision, name) in [(Precision::F32, "f32"), (Precision::Bf16, "bf16")] {
            let is_wanted = |at: usize, name: &str| wanted.get(at).is_none_or(|wanted| wanted == name);
            if is_wanted(0, isa.name()) && is_wanted(2, name) {
                println!("{} in {name}", isa.name());
                table(isa, precision, rows_only);
            }
        }
    }
}

fn table(isa: Isa, precision: Precision, rows_only: Option<usize>) {
    let contexts: Vec<Context> = [1, 2].map(|threads| Context::new(isa, threads)).into();
    let peaks: Vec<f64> = contexts.iter().map(|ctx| peak(ctx, precision)).collect();
    println!("peak {:.0} GFLOP/s with 1 thread, {:.0} with 2", peaks[0], peaks[1]);
    println!("{:<26} {:>15} {:>15} {:>15} {:>15}", "", "1 warm", "1 cold", "2 warm", "2 cold");
    for shape in SHAPES.into_iter().filter(|shape| rows_only.is_none_or(|rows| rows == shape.0)) {
        let (rows, inputs, outputs, backward) = shape;
        let name = format!("{rows} x {inputs} -> {outputs}{}", if backward { " back" } else { "" });
        line(&name, &contexts, &peaks, |ctx, cold| measure(ctx, shape, precision, cold));
    }
    let gradients = GRADIENTS.into_iter().filter(|shape| rows_only.is_none_or(|rows| rows == shape.0));
    for shape in gradients.filter(|_| precision == Precision::F32) {
        let name = format!("{} x {} -> {} gradient", shape.0, shape.1, shape.2);
        line(&name, &contexts, &peaks, |ctx, cold| measure_gradient(ctx, shape, cold));
    }
}

/// Prints a shape's speed with 1 and 2 threads, warm and cold.
fn line(name: &str, contexts: &[Context], peaks: &[f64], measure: impl Fn(&Context, bool) -> f64) {
    print!("{name:<26}");
    for (ctx, peak) in contexts.iter().zip(peaks) {
        for cold in [false, true] {
            let speed = measure(ctx, cold);
            print!(" {speed:>7.0} ({:>3.0} %)", 100.0 * speed / peak);
        }
    }
    println!();
}
