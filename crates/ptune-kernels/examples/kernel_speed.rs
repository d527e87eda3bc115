//! Prints the time of each kernel at the shapes that training BERT-like models has.
//!
//! `cargo run --release -p ptune-kernels --example kernel_speed [threads] [instruction set]`
#![allow(clippy::print_stdout)] // An example for people.

use std::time::Instant;

use ptune_kernels::*;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().and_then(|n| n.parse().ok());
    let isa = arguments.next().and_then(|name| Isa::named(&name)).unwrap_or_else(Isa::detect);
    let ctx = Context::new(isa, threads.unwrap_or_else(|| Context::detect().threads()));
    println!("{} with {} threads", isa.name(), ctx.threads());
    rows(&ctx, 120, 384, 1536, 30_522, 8);
    rows(&ctx, 800, 768, 3072, 30_522, 8);
    attention_at(&ctx, "8 x 15 rows", &[15; 8], 12, 32, false);
    attention_at(&ctx, "8 x 15 rows, 1 query a span", &[15; 8], 12, 32, true);
    let uneven = [82, 96, 104, 118, 127, 139, 150, 160];
    attention_at(&ctx, "8 x 82..160 rows", &uneven, 12, 64, false);
    attention_at(&ctx, "8 x 82..160 rows, 1 query a span", &uneven, 12, 64, true);
    attention_at(&ctx, "1 x 512 rows", &[512], 12, 64, false);
}

/// The least time of some calls, in microseconds.
fn best(mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < 0.15 {
        let start = Instant::now();
        f();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best * 1e6
}

/// Numbers in -1..1.
fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| unit_f32(philox([i as u32, 0, 0, 0], [1, 2])[0]) * 2.0 - 1.0).collect()
}

/// `[rows, columns]` of them.
fn rows_in(ctx: &Context, dtype: Dtype, rows: usize, columns: usize) -> Vec<f32> {
    let x = numbers(rows * columns);
    if dtype == Dtype::F32 {
        return x;
    }
    let mut pairs = vec![0.0; rows * dtype.stride(columns)];
    round_rows(ctx, &mut pairs, &x, columns);
    pairs
}

fn line(name: &str, shape: &str, forward: f64, backward: f64) {
    println!("{name:<24} {shape:<34} forward {forward:>9.1} us   backward {backward:>9.1} us");
}

fn rows(ctx: &Context, rows: usize, columns: usize, inner: usize, vocabulary: usize, targets: usize) {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        norm_at(ctx, dtype, rows, columns);
        for kind in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Tanh] {
            let x = rows_in(ctx, dtype, rows, inner);
            let [mut y, mut d] = [x.clone(), x.clone()];
            let forward = best(|| activation(ctx, RowsMut::new(dtype, &mut y), Rows::new(dtype, &x), kind));
            let backward = best(|| activation_backward(ctx, RowsMut::new(dtype, &mut d), Rows::new(dtype, &x), kind));
            line(&format!("{kind:?} {dtype:?}"), &format!("{rows} x {inner}"), forward, backward);
        }
    }

    let logits = numbers(targets * vocabulary);
    let (mut d_logits, mut losses, mut sums) = (logits.clone(), vec![0.0; targets], vec![0.0; targets]);
    let answers: Vec<u32> = (0..targets as u32).collect();
    let forward = best(|| softmax_cross_entropy(ctx, &mut losses, &mut sums, &logits, &answers, vocabulary));
    let backward =
        best(|| softmax_cross_entropy_backward(ctx, &mut d_logits, &logits, &sums, &answers, 1.0, vocabulary));
    line("softmax cross-entropy", &format!("{targets} x {vocabulary}"), forward, backward);

    let (ids, table) = (vec![3; rows], numbers(8 * columns));
    let pseudo: Vec<(u32, u32)> = (0..rows as u32 / 2).map(|i| (2 * i, i % 8)).collect();
    let (mut y, mut d_prompt, d_pseudo) = (vec![0.0; rows * columns], table.clone(), numbers(pseudo.len() * columns));
    let forward = best(|| {
        embed(ctx, &mut y, &ids, &table, Some((&ids, &table)), Some(&table[..columns]), &pseudo, &table, columns);
    });
    let backward = best(|| embed_backward_prompt(ctx, &mut d_prompt, &d_pseudo, &pseudo, columns));
    line("embed", &format!("{rows} x {columns}"), forward, backward);
}

/// A norm as a block with a residual has it: in bf16 it writes its rows in both forms.
fn norm_at(ctx: &Context, dtype: Dtype, rows: usize, columns: usize) {
    let x = numbers(rows * columns);
    let [mut exact, mut rounded, mut normalized] = [x.clone(), x.clone(), x.clone()];
    let (mut inverse, gamma) = (vec![0.0; rows], numbers(columns));
    let normalized = &mut normalized[..rows * dtype.stride(columns)];
    let rounded = &mut rounded[..rows * Dtype::Bf16.stride(columns)];
    fn output<'a>(exact: &'a mut [f32], rounded: &'a mut [f32], dtype: Dtype) -> NormOutput<'a> {
        NormOutput { exact: Some(exact), rounded: (dtype == Dtype::Bf16).then_some(rounded) }
    }
    ctx.reserve(norm_scratch_len(columns));
    let forward = best(|| {
        let (y, normalized) = (output(&mut exact, rounded, dtype), RowsMut::new(dtype, normalized));
        norm(ctx, NormKind::Layer, y, normalized, &mut inverse, &x, Some(&x), &gamma, Some(&gamma), 1e-12, columns);
    });
    let backward = best(|| {
        let (d_x, normalized) = (output(&mut exact, rounded, dtype), Rows::new(dtype, normalized));
        norm_backward_input(ctx, NormKind::Layer, d_x, &x, None, normalized, &inverse, &gamma, columns);
    });
    line(&format!("layer norm {dtype:?}"), &format!("{rows} x {columns}"), forward, backward);
}

fn attention_at(ctx: &Context, name: &str, lengths: &[usize], heads: usize, head_dim: usize, last_only: bool) {
    let mut end = 0;
    let spans: Vec<Span> = lengths
        .iter()
        .map(|len| {
            end += len;
            Span { rows: end - len..end, parent: None, end, past: 0..0 }
        })
        .collect();
    let positions = vec![0; end];
    let query_rows: Vec<u32> =
        if last_only { spans.iter().map(|span| span.rows.end as u32 - 1).collect() } else { (0..end as u32).collect() };
    let layout = Layout { spans: &spans, positions: &positions, query_rows: &query_rows };
    let scale = 1.0 / (head_dim as f32).sqrt();
    let shape = AttentionShape { heads, kv_heads: heads, head_dim, scale, causal: false, window: None };
    let columns = heads * head_dim;
    for dtype in [Dtype::F32, Dtype::Bf16] {
        // Any bits are numbers, so the time is that of rows rounded to bf16.
        let stride = dtype.stride(columns);
        let (q, k, v) = (numbers(query_rows.len() * stride), numbers(end * stride), numbers(end * stride));
        let ([mut out, mut d_q], [mut d_k, mut d_v]) = ([q.clone(), q.clone()], [k.clone(), k.clone()]);
        let mut sums = vec![0.0; query_rows.len() * heads];
        let mut work = vec![0.0; attention_backward_work_len(&layout, &shape, dtype, false)];
        let rows = |x| Rows::new(dtype, x);
        let kv = KeysValues { k: rows(&k), v: rows(&v), past_k: rows(&[]), past_v: rows(&[]) };
        ctx.reserve(attention_scratch_len(ctx, &layout, &shape, dtype, false));
        let forward = best(|| {
            attention(ctx, RowsMut::new(dtype, &mut out), &mut sums, rows(&q), kv, layout, shape, None);
        });
        let backward = best(|| {
            let [d_q, d_k, d_v] = [&mut d_q, &mut d_k, &mut d_v].map(|x| RowsMut::new(dtype, x));
            attention_backward(ctx, d_q, d_k, d_v, None, &mut work, rows(&q), rows(&q), kv, &sums, layout, shape, None);
        });
        line("attention", &format!("{name}, {heads} x {head_dim}, {dtype:?}"), forward, backward);
        let pairs: usize =
            spans.iter().map(|s| s.rows.len() * if last_only { 1 } else { s.rows.len() }).sum::<usize>() * columns;
        let rate = |products: f64, time: f64| 2.0 * products * pairs as f64 / time / 1e3;
        println!(
            "{:<59} forward {:>5.0} GFLOP/s   backward {:>5.0} GFLOP/s",
            "",
            rate(2.0, forward),
            rate(5.0, backward)
        );
    }
}
