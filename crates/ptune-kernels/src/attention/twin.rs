//! Attention and its gradients in f64, row by row from the definition, without spans, blocks or products of its own.

use super::{AttentionShape, Dropout, Layout, Span, SpanKey};
use crate::philox;

/// Inputs in f64.
#[derive(Clone, Default)]
pub(super) struct Inputs {
    pub(super) q: Vec<f64>,
    pub(super) k: Vec<f64>,
    pub(super) v: Vec<f64>,
    pub(super) past_k: Vec<f64>,
    pub(super) past_v: Vec<f64>,
}

/// A key that a query sees: its ordinal, and a row of the past or of the batch.
struct Seen {
    ordinal: usize,
    past: bool,
    row: usize,
}

fn seen(layout: &Layout, shape: &AttentionShape, span: usize, row: usize) -> Vec<Seen> {
    let spans = layout.spans;
    let near = |position: i64| {
        let distance = i64::from(layout.positions[row]) - position;
        shape
            .window
            .is_none_or(|w| if shape.causal { distance < i64::from(w) } else { distance.abs() <= i64::from(w / 2) })
    };
    let mut line = vec![span];
    while let Some(parent) = spans[line[0]].parent {
        line.insert(0, parent);
    }
    let past = spans[span].past.clone();
    let of_past = past.clone().enumerate().map(|(i, row)| (Seen { ordinal: i, past: true, row }, i as i64));
    let rows = line.iter().flat_map(|span| spans[*span].rows.clone()).enumerate();
    let of_rows =
        rows.map(|(i, row)| (Seen { ordinal: past.len() + i, past: false, row }, i64::from(layout.positions[row])));
    let all = of_past.chain(of_rows).filter(|(_, position)| near(*position)).map(|(seen, _)| seen);
    all.filter(|seen| seen.past || !shape.causal || seen.row <= row).collect()
}

fn span_of(spans: &[Span], row: usize) -> usize {
    spans.iter().position(|span| span.rows.contains(&row)).expect("spans cover the rows")
}

fn multiplier(dropout: Option<&Dropout>, span: usize, row: usize, head: usize, ordinal: usize) -> f64 {
    let Some(d) = dropout else { return 1.0 };
    let SpanKey { seed, key } = d.span_keys[span];
    let derived = philox([key as u32, (key >> 32) as u32, d.layer, head as u32], [seed as u32, (seed >> 32) as u32]);
    let words = philox([row as u32, ordinal as u32 / 4, 0, 0], [derived[0], derived[1]]);
    let keep = f64::from(words[ordinal % 4]) >= f64::from(d.probability) * 2f64.powi(32);
    if keep { 1.0 / (1.0 - f64::from(d.probability)) } else { 0.0 }
}

/// Output and log-sum-exp; with `d_out` also the gradients of all inputs.
pub(super) fn attention_f64(
    x: &Inputs,
    layout: &Layout,
    shape: &AttentionShape,
    dropout: Option<&Dropout>,
    d_out: Option<&[f64]>,
) -> (Vec<f64>, Vec<f64>, Inputs) {
    let (heads, dim, scale) = (shape.heads, shape.head_dim, f64::from(shape.scale));
    let (mut out, mut sums) = (vec![0.0; x.q.len()], vec![0.0; layout.query_rows.len() * heads]);
    let zeros = |x: &[f64]| vec![0.0; x.len()];
    let mut d =
        Inputs { q: zeros(&x.q), k: zeros(&x.k), v: zeros(&x.v), past_k: zeros(&x.past_k), past_v: zeros(&x.past_v) };
    for (query, row) in layout.query_rows.iter().enumerate() {
        let row = *row as usize;
        let span = span_of(layout.spans, row);
        let keys = seen(layout, shape, span, row);
        for head in 0..heads {
            let q = (query * heads + head) * dim;
            let kv = |s: &Seen| (s.row * shape.kv_heads + head * shape.kv_heads / heads) * dim;
            let k = |s: &Seen, i: usize| if s.past { x.past_k[kv(s) + i] } else { x.k[kv(s) + i] };
            let v = |s: &Seen, i: usize| if s.past { x.past_v[kv(s) + i] } else { x.v[kv(s) + i] };
            let score = |s: &Seen| (0..dim).map(|i| x.q[q + i] * k(s, i)).sum::<f64>() * scale;
            let scores: Vec<f64> = keys.iter().map(score).collect();
            let max = scores.iter().fold(f64::NEG_INFINITY, |m, s| m.max(*s));
            let sum = max + scores.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
            sums[query * heads + head] = sum;
            let p: Vec<f64> = scores.iter().map(|s| (s - sum).exp()).collect();
            let local = row - layout.spans[span].rows.start;
            let m: Vec<f64> = keys.iter().map(|s| multiplier(dropout, span, local, head, s.ordinal)).collect();
            for (j, s) in keys.iter().enumerate() {
                (0..dim).for_each(|i| out[q + i] += p[j] * m[j] * v(s, i));
            }
            let Some(d_out) = d_out else { continue };
            let d_out = &d_out[q..q + dim];
            let d_p: Vec<f64> =
                keys.iter().zip(&m).map(|(s, m)| m * (0..dim).map(|i| d_out[i] * v(s, i)).sum::<f64>()).collect();
            let delta: f64 = p.iter().zip(&d_p).map(|(p, d)| p * d).sum();
            for (j, s) in keys.iter().enumerate() {
                let d_score = p[j] * (d_p[j] - delta) * scale;
                for i in 0..dim {
                    d.q[q + i] += d_score * k(s, i);
                    let (d_k, d_v) = if s.past { (&mut d.past_k, &mut d.past_v) } else { (&mut d.k, &mut d.v) };
                    d_k[kv(s) + i] += d_score * x.q[q + i];
                    d_v[kv(s) + i] += p[j] * m[j] * d_out[i];
                }
            }
        }
    }
    (out, sums, d)
}
