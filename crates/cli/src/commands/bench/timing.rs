//! Rounds, their medians, and how they are told.

use std::collections::BTreeMap;

use amend_engine::profile::{self, Cost, Profile};
use amend_engine::tensor::memory_use;
use amend_engine::{Model, kernels};
use amend_run::machine::peak_memory;
use serde::Serialize;

use super::count::{Counted, count};
use super::modes::{Outcome, Round, Workload};
use super::{BenchArgs, Mode};
use crate::context::Context;
use crate::error::Error;
use crate::precision::{Compute, Weights};
use crate::table::{self, Align};

#[derive(Debug, Serialize)]
pub(super) struct Timing {
    mode: Mode,
    dtype: Compute,
    weights: Weights,
    batch: usize,
    length: usize,
    tokens: usize,
    threads: usize,
    simd: &'static str,
    rounds: usize,
    parameters: usize,
    trainable: usize,
    tokens_per_second: f64,
    seconds_per_round: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_seconds: Option<f64>,
    /// What the system says: code, weights, everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_resident_bytes: Option<u64>,
    peak_tensor_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    flops_per_token: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_fraction: Option<f64>,
    /// Multiply-adds of f32 that this machine makes at most, as operations per second.
    peak_flops: f64,
    /// What the first and the last round computed.
    first: Outcome,
    last: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Vec<Part>>,
}

/// One kind of operation, per round.
#[derive(Debug, Serialize)]
struct Part {
    operation: String,
    seconds: f64,
    share: f64,
    calls: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    gflops_per_second: Option<f64>,
}

pub(super) fn measure(
    model: Model,
    workload: &Workload,
    args: &BenchArgs,
    context: &mut Context,
) -> Result<Timing, Error> {
    let (mut model, mut runner) = workload.prepare(model)?;
    let peak_before = kernels::measured_peak();
    let mut bar = context.progress.begin("bench", args.rounds as u64 + 1, "rounds");
    let first = runner.round(&mut model)?;
    bar.advance(1, "");
    let (mut rounds, mut profiles) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        if args.profile {
            let (round, profile) = profile::record(|| runner.round(&mut model));
            profiles.push(profile);
            rounds.push(round?);
        } else {
            rounds.push(runner.round(&mut model)?);
        }
        bar.advance(1, "");
    }
    bar.finish("timed");
    let peak_flops = peak_before.max(kernels::measured_peak());
    let seconds = median(rounds.iter().map(|round| round.seconds));
    let prompts: Vec<f64> = rounds.iter().filter_map(|round| round.prompt_seconds).collect();
    let counted = count(&model, workload);
    let tokens = workload.tokens();
    let rate = counted.as_ref().map(|c| c.total() / seconds);
    let (parameters, trainable) = model.params.count();
    Ok(Timing {
        mode: workload.mode,
        dtype: args.precision.dtype,
        weights: args.precision.weights,
        batch: workload.batch,
        length: workload.length,
        tokens,
        threads: rayon::current_num_threads(),
        simd: kernels::simd_level(),
        rounds: args.rounds,
        parameters,
        trainable: if workload.learns() { trainable } else { 0 },
        tokens_per_second: tokens as f64 / seconds,
        seconds_per_round: seconds,
        prompt_seconds: (!prompts.is_empty()).then(|| median(prompts.into_iter())),
        peak_resident_bytes: peak_memory(),
        peak_tensor_bytes: memory_use().peak,
        flops_per_token: counted.as_ref().map(|c| c.total() / tokens as f64),
        peak_fraction: rate.map(|rate| rate / peak_flops),
        peak_flops,
        last: rounds.pop().map_or_else(|| first.outcome.clone(), |round: Round| round.outcome),
        first: first.outcome,
        profile: args.profile.then(|| parts(&profiles, counted.as_ref())),
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// The means of all rounds, the most expensive first.
fn parts(profiles: &[Profile], counted: Option<&Counted>) -> Vec<Part> {
    let rounds = profiles.len() as f64;
    let elapsed: f64 = profiles.iter().map(|p| p.elapsed.as_secs_f64()).sum();
    let mut sums: BTreeMap<&str, Cost> = BTreeMap::new();
    for (name, cost) in profiles.iter().flat_map(|p| &p.costs) {
        let sum = sums.entry(name).or_default();
        sum.time += cost.time;
        sum.calls += cost.calls;
        sum.flops += cost.flops;
    }
    let mut rest = elapsed;
    let mut parts: Vec<Part> = Vec::new();
    for (name, cost) in sums {
        let seconds = cost.time.as_secs_f64();
        rest -= seconds;
        let flops = match (name, counted) {
            ("attention", Some(counted)) => counted.attention,
            ("attention backward", Some(counted)) => counted.attention_backward,
            _ => cost.flops as f64 / rounds,
        };
        parts.push(Part {
            operation: name.to_owned(),
            seconds: seconds / rounds,
            share: seconds / elapsed,
            calls: cost.calls as f64 / rounds,
            gflops_per_second: (flops > 0.0).then(|| flops / (seconds / rounds) / 1e9),
        });
    }
    parts.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let (seconds, share) = (rest.max(0.0) / rounds, rest.max(0.0) / elapsed);
    parts.push(Part { operation: "rest".into(), seconds, share, calls: 1.0, gflops_per_second: None });
    parts
}

impl Timing {
    pub(super) fn show(&self, context: &mut Context) -> Result<(), Error> {
        let out = &mut context.out;
        out.line(format_args!(
            "{:.0} tokens/s ({:.1} ms for {} × {}), {} on {} threads",
            self.tokens_per_second,
            1e3 * self.seconds_per_round,
            self.batch,
            self.length,
            self.simd,
            self.threads,
        ))?;
        if let Some(seconds) = self.prompt_seconds {
            out.line(format_args!("prompts: {:.1} ms", 1e3 * seconds))?;
        }
        if let (Some(flops), Some(fraction)) = (self.flops_per_token, self.peak_fraction) {
            out.line(format_args!(
                "{:.1} million operations per token: {:.1} % of this machine's {:.0} GFLOP/s",
                flops / 1e6,
                100.0 * fraction,
                self.peak_flops / 1e9,
            ))?;
        }
        let tensors = self.peak_tensor_bytes as f64 / 1e6;
        match self.peak_resident_bytes {
            Some(bytes) => {
                let resident = bytes as f64 / 1e6;
                out.line(format_args!("peak memory: {resident:.0} MB resident, {tensors:.0} MB of tensors"))?;
            }
            None => out.line(format_args!("peak memory: {tensors:.0} MB of tensors"))?,
        }
        let Some(parts) = &self.profile else { return Ok(()) };
        let columns = [
            ("operation", Align::Left),
            ("ms", Align::Right),
            ("share", Align::Right),
            ("calls", Align::Right),
            ("GFLOP/s", Align::Right),
        ];
        let row = |part: &Part| {
            vec![
                part.operation.clone(),
                format!("{:.2}", 1e3 * part.seconds),
                format!("{:.1} %", 100.0 * part.share),
                format!("{:.0}", part.calls),
                part.gflops_per_second.map_or(String::new(), |rate| format!("{rate:.0}")),
            ]
        };
        let rows: Vec<_> = parts.iter().map(row).collect();
        out.line("")?;
        for line in table::lines(&columns, &rows) {
            out.line(line)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }

    #[test]
    fn what_no_span_covers_is_the_rest() {
        use std::time::Duration;
        let cost = |ms, flops| Cost { time: Duration::from_millis(ms), calls: 2, flops };
        let costs = [("forward up_proj".to_owned(), cost(6, 12_000_000)), ("norm".to_owned(), cost(3, 0))];
        let profile = Profile { costs: costs.into(), elapsed: Duration::from_millis(10) };
        let parts = parts(&[profile.clone(), profile], None);
        let names: Vec<_> = parts.iter().map(|p| p.operation.as_str()).collect();
        assert_eq!(names, ["forward up_proj", "norm", "rest"]);
        assert!((parts[0].gflops_per_second.unwrap() - 2.0).abs() < 1e-9);
        assert!((parts[2].seconds - 1e-3).abs() < 1e-9);
        assert!((parts.iter().map(|p| p.share).sum::<f64>() - 1.0).abs() < 1e-9);
    }
}
