//! The kernels against the f64 twin over the whole matrix of kinds, the twin's gradients against central differences,
//! and bits that may not depend on neighbours.

use super::twin::{Inputs, attention_f64};
use super::*;
use crate::rows::{round_rows, widen_rows};
use crate::simd::pair;
use crate::testing::{assert_close, central_differences, numbers, on_every_isa, wide};

/// Everything one call needs, owned.
#[derive(Clone)]
struct Case {
    name: String,
    spans: Vec<Span>,
    positions: Vec<u32>,
    query_rows: Vec<u32>,
    shape: AttentionShape,
    dtype: Dtype,
    dropout: f32,
    span_keys: Vec<SpanKey>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    past_k: Vec<f32>,
    past_v: Vec<f32>,
    d_out: Vec<f32>,
}

impl Case {
    /// Fills in numbers for these spans; every `every`-th row asks.
    fn new(name: String, spans: Vec<Span>, shape: AttentionShape, every: usize, dropout: f32) -> Self {
        let rows = spans.last().map_or(0, |s| s.rows.end);
        let past = spans.iter().map(|s| s.past.end).max().unwrap_or(0);
        let mut positions = vec![0; rows];
        let layout = Layout { spans: &spans, positions: &[], query_rows: &[] };
        for (i, span) in spans.iter().enumerate() {
            let first = span.past.len() + layout.keys_before(i);
            span.rows.clone().for_each(|row| positions[row] = (first + row - span.rows.start) as u32);
        }
        let query_rows: Vec<u32> = (0..rows as u32).filter(|row| (*row as usize + 1).is_multiple_of(every)).collect();
        let (of_q, of_k) = (query_rows.len() * shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        // Scores of about +-4, so that softmax is neither flat nor a maximum.
        let loud = |x: Vec<f32>| x.iter().map(|x| 4.0 * x).collect();
        Case {
            name,
            span_keys: (0..spans.len() as u64)
                .map(|i| SpanKey { seed: (5 << 40) | (9 + i), key: 77 + (i << 33) })
                .collect(),
            spans,
            positions,
            query_rows,
            shape,
            dtype: Dtype::F32,
            dropout,
            q: loud(numbers(of_q, 1)),
            k: numbers(rows * of_k, 2),
            v: numbers(rows * of_k, 3),
            past_k: numbers(past * of_k, 4),
            past_v: numbers(past * of_k, 5),
            d_out: numbers(of_q, 6),
        }
    }

    fn layout(&self) -> Layout<'_> {
        Layout { spans: &self.spans, positions: &self.positions, query_rows: &self.query_rows }
    }

    fn dropout(&self) -> Option<Dropout<'_>> {
        let dropout = Dropout { probability: self.dropout, layer: 3, span_keys: &self.span_keys };
        (self.dropout > 0.0).then_some(dropout)
    }

    fn inputs(&self) -> Inputs {
        let Case { q, k, v, past_k, past_v, .. } = self;
        Inputs { q: wide(q), k: wide(k), v: wide(v), past_k: wide(past_k), past_v: wide(past_v) }
    }

    /// The same case in bf16: numbers rounded, heads of an even width.
    fn in_bf16(&self, every: usize) -> Self {
        let head_dim = self.shape.head_dim.next_multiple_of(2);
        let shape = AttentionShape { head_dim, ..self.shape };
        let mut case = Self::new(format!("{} in bf16", self.name), self.spans.clone(), shape, every, self.dropout);
        case.dtype = Dtype::Bf16;
        let Case { q, k, v, past_k, past_v, d_out, .. } = &mut case;
        for x in [q, k, v, past_k, past_v, d_out] {
            x.iter_mut().for_each(|x| *x = f32::from_bits(pair(0.0, *x).to_bits()));
        }
        case
    }

    /// `x` as the kernels take it.
    fn memory(&self, ctx: &Context, x: &[f32], heads: usize) -> Vec<f32> {
        let columns = heads * self.shape.head_dim;
        let mut memory = vec![0.0; x.len() / columns * self.dtype.stride(columns)];
        match self.dtype {
            Dtype::F32 => memory.copy_from_slice(x),
            Dtype::Bf16 => round_rows(ctx, &mut memory, x, columns),
        }
        memory
    }

    /// Output, log-sum-exp, and gradients of q, k, v, past k, past v.
    fn run(&self, ctx: &Context) -> [Vec<f32>; 7] {
        let (layout, shape, dtype, dropout) = (self.layout(), self.shape, self.dtype, self.dropout());
        let [q, d_out] = [&self.q, &self.d_out].map(|x| self.memory(ctx, x, shape.heads));
        let [k, v, past_k, past_v] =
            [&self.k, &self.v, &self.past_k, &self.past_v].map(|x| self.memory(ctx, x, shape.kv_heads));
        let rows = |x| Rows::new(dtype, x);
        let kv = KeysValues { k: rows(&k), v: rows(&v), past_k: rows(&past_k), past_v: rows(&past_v) };
        let mut sums = vec![9.0; self.query_rows.len() * shape.heads];
        let mut results = [&q, &q, &k, &v, &past_k, &past_v].map(|x| vec![9.0; x.len()]);
        let [out, d_q, d_k, d_v, d_past_k, d_past_v] = results.each_mut().map(|x| RowsMut::new(dtype, x));
        let mut work = vec![f32::NAN; attention_backward_work_len(&layout, &shape, dtype, true)];
        ctx.reserve(attention_scratch_len(ctx, &layout, &shape, dtype, dropout.is_some()));
        // What an earlier kernel left in scratch must not matter.
        ctx.run(64, |_, scratch| scratch.fill(f32::NAN));
        attention(ctx, out, &mut sums, rows(&q), kv, layout, shape, dropout);
        let d_past = Some((d_past_k, d_past_v));
        let d_out = rows(&d_out);
        attention_backward(ctx, d_q, d_k, d_v, d_past, &mut work, d_out, rows(&q), kv, &sums, layout, shape, dropout);
        let lens = [&self.q, &self.q, &self.k, &self.v, &self.past_k, &self.past_v].map(Vec::len);
        let heads = [shape.heads, shape.heads, shape.kv_heads, shape.kv_heads, shape.kv_heads, shape.kv_heads];
        let [out, d_q, d_k, d_v, d_past_k, d_past_v] = std::array::from_fn(|i| {
            let mut numbers = vec![0.0; lens[i]];
            match dtype {
                Dtype::F32 => numbers.copy_from_slice(&results[i]),
                Dtype::Bf16 => widen_rows(ctx, &mut numbers, &results[i], heads[i] * shape.head_dim),
            }
            numbers
        });
        [out, sums, d_q, d_k, d_v, d_past_k, d_past_v]
    }

    fn assert_equals_the_twin(&self) {
        // In bf16 probabilities and their gradients are rounded before they are summed up, and so are the results.
        let limit = if self.dtype == Dtype::F32 { 5e-6 } else { 0.01 };
        let (layout, shape, dropout) = (self.layout(), self.shape, self.dropout());
        let d_out = wide(&self.d_out);
        let (out, sums, d) = attention_f64(&self.inputs(), &layout, &shape, dropout.as_ref(), Some(&d_out));
        let want = [out, sums, d.q, d.k, d.v, d.past_k, d.past_v];
        let what = ["out", "log_sum_exp", "d_q", "d_k", "d_v", "d_past_k", "d_past_v"];
        on_every_isa(
            |ctx| self.run(ctx).concat(),
            |isa, got| {
                let mut got = got;
                for (what, want) in what.iter().zip(&want) {
                    let (part, rest) = got.split_at(want.len());
                    let limit = if *what == "log_sum_exp" { 5e-6 } else { limit };
                    assert_close(&format!("{} on {isa}: {what}", self.name), part, want, limit);
                    got = rest;
                }
            },
        );
    }
}

/// Spans of these lengths, one after the other; with `past`, each sees another part of 11 past rows.
fn row_of_spans(lengths: &[usize], past: bool) -> Vec<Span> {
    let mut start = 0;
    let spans = lengths.iter().enumerate().map(|(i, len)| {
        let rows = start..start + len;
        start = rows.end;
        let past = if past { i % 4..11 - i % 3 } else { 0..0 };
        Span { end: rows.end, rows, parent: None, past }
    });
    spans.collect()
}

/// Two trees: a root with a child, its child, and another child; and a span alone.
fn trees(past: bool) -> Vec<Span> {
    let mut spans = row_of_spans(&[3, 4, 2, 9, 6], past);
    (spans[0].end, spans[1].end) = (18, 9);
    for (child, parent) in [(1, 0), (2, 1), (3, 0)] {
        spans[child].parent = Some(parent);
    }
    spans
}

fn shape(heads: usize, kv_heads: usize, head_dim: usize, causal: bool, window: Option<u32>) -> AttentionShape {
    AttentionShape { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt(), causal, window }
}

/// Causal or not x window x grouped heads x past x trees x some queries x dropout, with head widths in turn.
fn matrix() -> Vec<Case> {
    let mut cases = vec![];
    for bits in 0..128_usize {
        let bit = |i: usize| bits >> i & 1 == 1;
        let (causal, tree, past) = (bit(0), bit(1), bit(2));
        if tree && !causal {
            continue;
        }
        let spans = if tree { trees(past) } else { row_of_spans(&[5, 1, 0, 8, 7], past) };
        let head_dim = [1, 5, 7, 8, 9, 16, 17, 26][(bits * 5 + bits / 8) % 8];
        let (heads, kv_heads) = if bit(3) { (4, 2) } else { (2, 2) };
        let shape = shape(heads, kv_heads, head_dim, causal, bit(4).then_some(4));
        let name = format!("case {bits:07b}, head_dim {head_dim}");
        cases.push(Case::new(name, spans, shape, if bit(5) { 3 } else { 1 }, if bit(6) { 0.3 } else { 0.0 }));
    }
    cases
}

#[test]
fn every_kind_equals_the_twin() {
    matrix().iter().for_each(Case::assert_equals_the_twin);
}

#[test]
fn every_kind_in_bf16_equals_the_twin_as_far_as_rounding_lets_it() {
    for (bits, case) in matrix().iter().enumerate() {
        case.in_bf16(1 + bits % 3).assert_equals_the_twin();
    }
}

#[test]
fn many_blocks_of_queries_and_keys_equal_the_twin() {
    for (causal, past, window, every) in
        [(false, false, None, 1), (true, true, None, 1), (true, false, Some(40), 1), (false, true, Some(50), 7)]
    {
        let mut spans = row_of_spans(&[150, 17, 33, 64, 65], past);
        if past {
            spans.iter_mut().for_each(|s| s.past = s.past.start * 3..s.past.end * 13);
        }
        let name = format!("long, causal {causal}, past {past}, window {window:?}");
        let case = Case::new(name, spans, shape(2, 1, 24, causal, window), every, 0.0);
        case.assert_equals_the_twin();
        case.in_bf16(every).assert_equals_the_twin();
    }
}

/// A tree whose branches are several units of the backward, between two small ones.
fn divided_tree(past: bool) -> Vec<Span> {
    let mut spans = row_of_spans(&[4, 7, 30, 5, 40, 3, 70, 2, 1, 9, 3], past);
    let parents = [None, None, Some(1), Some(2), Some(1), Some(1), Some(1), Some(6), Some(7), Some(1), None];
    for (span, parent) in spans.iter_mut().zip(parents) {
        span.parent = parent;
        // All branches see the same past, as they do in a model.
        span.past = if past { 2..11 } else { 0..0 };
    }
    for i in (0..spans.len()).rev() {
        if let Some(parent) = spans[i].parent {
            spans[parent].end = spans[parent].end.max(spans[i].end);
        }
    }
    spans
}

#[test]
fn shared_keys_of_a_divided_tree_equal_the_twin() {
    for (past, kv_heads, every, dropout) in [(false, 2, 1, 0.0), (true, 1, 1, 0.3), (false, 1, 5, 0.0)] {
        let spans = divided_tree(past);
        let layout = Layout { spans: &spans, positions: &vec![0; 174], query_rows: &[0; 174] };
        assert!(group::groups(&layout, past).count() > 4, "the tree was not divided");
        let case = Case::new(format!("divided, past {past}"), spans, shape(2, kv_heads, 8, true, None), every, dropout);
        case.assert_equals_the_twin();
        case.in_bf16(every).assert_equals_the_twin();
    }
}

#[test]
fn one_key_no_rows_and_no_queries() {
    for lengths in [&[1][..], &[], &[0], &[2, 3]] {
        let spans = row_of_spans(lengths, false);
        Case::new(format!("{lengths:?}"), spans, shape(1, 1, 3, true, None), 9, 0.0).assert_equals_the_twin();
    }
}

#[test]
fn the_gradients_of_the_twin_are_central_differences() {
    for case in matrix().into_iter().filter(|case| case.shape.head_dim <= 7) {
        let (layout, dropout, d_out) = (case.layout(), case.dropout(), wide(&case.d_out));
        let inputs = case.inputs();
        let (_, _, d) = attention_f64(&inputs, &layout, &case.shape, dropout.as_ref(), Some(&d_out));
        let loss = |x: &Inputs| -> f64 {
            let (out, _, _) = attention_f64(x, &layout, &case.shape, dropout.as_ref(), None);
            out.iter().zip(&d_out).map(|(y, d)| y * d).sum()
        };
        type Field = fn(&mut Inputs) -> &mut Vec<f64>;
        let fields: [Field; 5] = [|x| &mut x.q, |x| &mut x.k, |x| &mut x.v, |x| &mut x.past_k, |x| &mut x.past_v];
        for (i, field) in fields.into_iter().enumerate() {
            let (mut at, mut got) = (inputs.clone(), d.clone());
            // A part of each input is enough: the others go through the same lines.
            let tested = field(&mut at).len().min(24);
            let want = central_differences(&field(&mut at)[..tested], |part| {
                let mut x = inputs.clone();
                field(&mut x)[..tested].copy_from_slice(part);
                loss(&x)
            });
            let got: Vec<f32> = field(&mut got)[..tested].iter().map(|x| *x as f32).collect();
            assert_close(&format!("{}, input {i}", case.name), &got, &want, 1e-6);
        }
    }
}

#[test]
fn a_query_alone_has_the_bits_it_has_among_others() {
    for isa in Isa::available() {
        let ctx = Context::new(isa, 2);
        for (causal, dropout) in [(true, 0.0), (false, 0.2)] {
            let all =
                Case::new("all".into(), row_of_spans(&[9, 70, 20], true), shape(3, 1, 17, causal, None), 1, dropout);
            let [out, sums, d_q, ..] = all.run(&ctx);
            for row in [0, 8, 9, 41, 78, 98] {
                let columns = row * 51..(row + 1) * 51;
                let mut one = all.clone();
                one.query_rows = vec![row as u32];
                (one.q, one.d_out) = (all.q[columns.clone()].to_vec(), all.d_out[columns.clone()].to_vec());
                let [out_one, sums_one, d_q_one, ..] = one.run(&ctx);
                assert_eq!(out_one, out[columns.clone()], "{} row {row}", isa.name());
                assert_eq!(sums_one, sums[row * 3..row * 3 + 3], "{} row {row}", isa.name());
                assert_eq!(d_q_one, d_q[columns], "{} row {row}", isa.name());
            }
        }
    }
}

#[test]
fn a_span_alone_has_the_bits_it_has_in_the_batch() {
    for isa in Isa::available() {
        let ctx = Context::new(isa, 2);
        let batch = Case::new("batch".into(), row_of_spans(&[9, 70, 20], false), shape(2, 2, 12, true, None), 1, 0.2);
        let [out, _, d_q, d_k, d_v, ..] = batch.run(&ctx);
        let mut alone = batch.clone();
        alone.spans = row_of_spans(&[70], false);
        let part = 9 * 24..79 * 24;
        for x in [&mut alone.q, &mut alone.k, &mut alone.v, &mut alone.d_out] {
            *x = x[part.clone()].to_vec();
        }
        alone.positions = batch.positions[9..79].to_vec();
        alone.query_rows = (0..70).collect();
        // The mask goes with the span's key, not with its place.
        alone.span_keys = vec![batch.span_keys[1]];
        let [out_alone, _, d_q_alone, d_k_alone, d_v_alone, ..] = alone.run(&ctx);
        for (alone, batch) in [(out_alone, out), (d_q_alone, d_q), (d_k_alone, d_k), (d_v_alone, d_v)] {
            assert_eq!(alone, batch[part.clone()], "{}", isa.name());
        }
    }
}

#[test]
fn dropout_keeps_its_share_and_depends_on_every_part_of_its_name() {
    let kept = |seed: u64, layer: u32, key: u64, head: usize| {
        let dropout = Dropout { probability: 0.1, layer, span_keys: &[SpanKey { seed, key }] };
        let mask = dropout::Mask::new(&dropout, 0, head);
        let mut all = vec![];
        (0..100).for_each(|row| mask.multipliers(row, 99, |_, m| all.push(m)));
        all
    };
    let base = kept(1, 2, 3, 4);
    let share = base.iter().filter(|m| **m > 0.0).count() as f64 / base.len() as f64;
    // Three deviations of 9,900 draws.
    assert!((share - 0.9).abs() < 0.009, "{share}");
    assert!(base.iter().all(|m| *m == 0.0 || *m == 1.0 / 0.9));
    for other in [kept(2, 2, 3, 4), kept(1, 3, 3, 4), kept(1, 2, 4, 4), kept(1, 2, 3, 5), kept(1, 2, 3 << 32, 4)] {
        assert_ne!(base, other);
    }
}

/// Layouts that would read or mix up rows of others must not get past the checks.
#[test]
fn wrong_layouts_panic() {
    let panics = |change: &dyn Fn(&mut Case)| {
        let mut case = Case::new("wrong".into(), trees(false), shape(1, 1, 4, true, None), 1, 0.0);
        change(&mut case);
        let run = std::panic::AssertUnwindSafe(|| case.run(&Context::new(Isa::detect(), 1)));
        std::panic::catch_unwind(run).is_err()
    };
    assert!(!panics(&|_| ()));
    assert!(panics(&|case| case.shape.causal = false), "a bidirectional span with a parent");
    assert!(panics(&|case| case.spans[0].end = 19), "an end beyond the descendants");
    assert!(panics(&|case| case.spans[3].parent = Some(1)), "a parent that is not the innermost open span");
    assert!(panics(&|case| case.spans[2].past = 0..1), "past rows that are not there");
    assert!(panics(&|case| case.spans[4].rows.end = 25), "more rows than there are");
    assert!(panics(&|case| case.query_rows.swap(0, 1)), "queries out of order");
    assert!(panics(&|case| case.shape.kv_heads = 3), "key heads that do not divide the heads");
}
