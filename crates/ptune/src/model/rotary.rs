//! The rotary positions of a `config.json`: frequencies and their scaling, as `transformers/modeling_rope_utils.py` has them.
//!
//! ```text
//! default   f_i = theta^(-2i / width)
//! linear    f_i / factor
//! llama3    f_i where its wavelength is short, f_i / factor where it is long, in between a mix of both
//! yarn      the mix goes by i instead (Peng et al., "YaRN", 2023), and what is turned gets a factor
//! ```
//! Newer files keep all of it in `rope_parameters`, older ones in `rope_theta` and `rope_scaling`. Kinds that depend on the
//! length of a text (`dynamic`, `longrope`) are refused.

use std::f64::consts::PI;

use super::spec::RotarySpec;
use crate::Result;
use crate::checkpoint::Config;

/// The settings of one rotary embedding, wherever the file has them.
pub(super) struct Rope<'a> {
    config: &'a Config,
    /// The object with the scaling.
    scaling: Config,
    theta: f64,
    /// The longest text that the model was made for.
    positions: usize,
}

impl<'a> Rope<'a> {
    /// Those of a model that has one kind: `rope_parameters`, or `rope_scaling` beside the key `theta`.
    pub(super) fn read(config: &'a Config, theta: &str) -> Result<Self> {
        let key = if config.contains("rope_parameters") { "rope_parameters" } else { "rope_scaling" };
        Rope::of(config, config.object(key)?, config.optional_f32(theta)?.unwrap_or(10_000.0))
    }

    /// Those of one kind of layers: an object under `rope_parameters`, else `theta`.
    pub(super) fn of_layers(config: &'a Config, layers: &str, theta: f32) -> Result<Self> {
        let scaling = config.object("rope_parameters")?.object(layers)?;
        Rope::of(config, scaling, theta)
    }

    fn of(config: &'a Config, scaling: Config, theta: f32) -> Result<Self> {
        let theta = f64::from(scaling.optional_f32("rope_theta")?.unwrap_or(theta));
        if theta <= 1.0 {
            return Err(config.error("rope_theta", format!("{theta} should be above 1, as 10000")));
        }
        Ok(Rope { config, scaling, theta, positions: config.usize("max_position_embeddings")? })
    }

    /// The part of each head that is turned, where it is not all of it.
    pub(super) fn share(&self) -> Result<Option<f32>> {
        self.scaling.optional_f32("partial_rotary_factor")
    }

    /// The spec for the first `width` numbers of each head.
    pub(super) fn spec(&self, width: usize) -> Result<RotarySpec> {
        if width == 0 || !width.is_multiple_of(2) {
            let message = format!("rotary positions would turn {width} numbers of each head: they are turned in pairs");
            return Err(self.config.error("head_dim", message));
        }
        let kind = match self.scaling.optional_str("rope_type")? {
            Some(kind) => kind,
            None => self.scaling.optional_str("type")?.unwrap_or("default"),
        };
        let plain: Vec<f64> = (0..width / 2).map(|i| self.theta.powf(-((2 * i) as f64) / width as f64)).collect();
        let (frequencies, factor) = match kind {
            "default" => (plain, 1.0),
            "linear" => {
                let factor = self.above_zero("factor")?;
                (plain.iter().map(|f| f / factor).collect(), 1.0)
            }
            "llama3" => (self.llama3(&plain)?, 1.0),
            "yarn" => self.yarn(&plain, width)?,
            other => {
                let message = format!(
                    "the rotary scaling '{other}' is not implemented; implemented: default, linear, llama3, yarn"
                );
                return Err(self.scaling.error("rope_type", message));
            }
        };
        Ok(RotarySpec { frequencies: frequencies.iter().map(|f| *f as f32).collect(), factor: factor as f32 })
    }

    /// A number above 0 that this kind needs.
    fn above_zero(&self, key: &str) -> Result<f64> {
        let value = f64::from(self.scaling.f32(key)?);
        if value > 0.0 { Ok(value) } else { Err(self.scaling.error(key, format!("{value} should be above 0"))) }
    }

    /// The longest text of the first training.
    fn original_positions(&self) -> Result<f64> {
        let key = "original_max_position_embeddings";
        let own = match self.config.optional_usize(key)? {
            Some(own) => Some(own),
            None => self.scaling.optional_usize(key)?,
        };
        Ok(own.unwrap_or(self.positions) as f64)
    }

    fn llama3(&self, plain: &[f64]) -> Result<Vec<f64>> {
        let (factor, low) = (self.above_zero("factor")?, self.above_zero("low_freq_factor")?);
        let (high, positions) = (self.above_zero("high_freq_factor")?, self.original_positions()?);
        if high <= low {
            return Err(self.scaling.error("high_freq_factor", "should be above low_freq_factor"));
        }
        let scaled = |f: &f64| {
            let turns = positions * f / (2.0 * PI); // in the longest text
            let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 - share) * f / factor + share * f
        };
        Ok(plain.iter().map(scaled).collect())
    }

    fn yarn(&self, plain: &[f64], width: usize) -> Result<(Vec<f64>, f64)> {
        let positions = self.original_positions()?;
        let factor = match self.scaling.contains("factor") {
            true => self.above_zero("factor")?,
            false => self.positions as f64 / positions,
        };
        let number = |key: &str| Ok(self.scaling.optional_f32(key)?.map(f64::from).filter(|x| *x != 0.0));
        let (fast, slow) = (number("beta_fast")?.unwrap_or(32.0), number("beta_slow")?.unwrap_or(1.0));
        if fast <= 0.0 || slow <= 0.0 {
            return Err(self.scaling.error("beta_fast", "should be above 0, and so should beta_slow"));
        }
        // The plane that makes so many turns in the longest text.
        let plane = |turns: f64| width as f64 * (positions / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln());
        let (mut low, mut high) = (plane(fast), plane(slow));
        if self.scaling.bool_or("truncate", true)? {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(width as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        let scaled = |(i, f): (usize, &f64)| {
            let share = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            share * f / factor + (1.0 - share) * f
        };
        let scale = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
        let attention = match (number("attention_factor")?, number("mscale")?, number("mscale_all_dim")?) {
            (Some(factor), ..) => factor,
            (None, Some(one), Some(all)) => scale(one) / scale(all),
            _ => scale(1.0),
        };
        Ok((plain.iter().enumerate().map(scaled).collect(), attention))
    }
}
