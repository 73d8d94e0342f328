//! `amend doctor`: what this machine can do, and what stands in the way.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use amend_engine::kernels::{self, Mat, MatMut};
use amend_run::machine::Machine;
use clap::Args;
use serde::Serialize;

use crate::app::Exit;
use crate::args::VERSION;
use crate::context::Context;
use crate::error::Error;

/// Side of the square matrices that are multiplied: large enough to be compute-bound, small enough for
/// the product to take milliseconds.
const SIDE: usize = 768;

/// How long the speed is measured.
const MEASURED: Duration = Duration::from_millis(400);

/// Check this machine: processor, memory, disk, and how fast matrices are multiplied
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {}

/// Everything that was found out.
#[derive(Debug, Serialize)]
struct Findings {
    version: &'static str,
    machine: Machine,
    /// Instruction set that the kernels use.
    simd: &'static str,
    /// Threads that compute.
    threads: usize,
    /// Bytes of memory that are free, and that this process may use at all.
    memory_available: Option<u64>,
    memory_limit: Option<u64>,
    /// Free bytes on the disk of the working directory.
    disk_available: Option<u64>,
    /// Speed of an f32 matrix product, 10⁹ operations per second.
    gemm_gflops: f64,
    checks: Vec<Check>,
}

/// One line of advice.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    message: String,
}

pub(crate) fn execute(_: DoctorArgs, context: &mut Context) -> Result<Exit, Error> {
    let mut findings = Findings {
        version: VERSION,
        machine: Machine::detect(),
        simd: kernels::simd_level(),
        threads: rayon::current_num_threads(),
        memory_available: memory_available(),
        memory_limit: memory_limit(),
        disk_available: disk_available(),
        gemm_gflops: gemm_gflops(),
        checks: Vec::new(),
    };
    findings.checks = checks(&findings);
    if context.json {
        context.out.json_document(&findings)?;
    } else {
        show(&findings, context)?;
    }
    Ok(Exit::Done)
}

fn show(findings: &Findings, context: &mut Context) -> Result<(), Error> {
    context.out.line(format_args!("amend {}\n{}\n", findings.version, findings.machine))?;
    for check in &findings.checks {
        let mark = if check.ok { "ok  " } else { "warn" };
        context.out.line(format_args!("{mark}  {:<9} {}", check.name, check.message))?;
    }
    Ok(())
}

fn checks(found: &Findings) -> Vec<Check> {
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
    let check = |name, ok, message| Check { name, ok, message };
    let mut checks = Vec::new();
    checks.push(match found.simd {
        "portable" => {
            check("simd", false, "portable code; AVX2 or AVX-512 would be several times faster".into())
        }
        level => check("simd", true, format!("{level} kernels")),
    });
    let cores = found.machine.cores;
    checks.push(if found.threads > cores {
        let message = format!("{} threads for {cores} cores get in each other's way", found.threads);
        check("threads", false, message)
    } else {
        check("threads", true, format!("{} of {cores}", found.threads))
    });
    checks.push(check("speed", true, format!("{:.0} GFLOP/s in f32 matrix products", found.gemm_gflops)));
    if cfg!(debug_assertions) {
        let message = "built with debug checks; `cargo build --release` is faster".to_owned();
        checks.push(check("build", false, message));
    }
    let memory = match (found.memory_available, found.memory_limit) {
        (Some(free), Some(limit)) => Some(free.min(limit)),
        (free, limit) => free.or(limit),
    };
    checks.push(match memory {
        // A model of a billion parameters takes 4 GiB in f32, before any training.
        Some(bytes) if bytes < 2 << 30 => {
            check("memory", false, format!("{} free; enough for small models only", gib(bytes)))
        }
        Some(bytes) => check("memory", true, format!("{} free", gib(bytes))),
        None => check("memory", true, "free memory is not known on this system".into()),
    });
    checks.push(match found.disk_available {
        Some(bytes) if bytes < 1 << 30 => check(
            "disk",
            false,
            format!("{} free here; a run may not be able to write its model", gib(bytes)),
        ),
        Some(bytes) => check("disk", true, format!("{} free here", gib(bytes))),
        None => check("disk", true, "free space is not known on this system".into()),
    });
    checks.push(match writable() {
        Ok(()) => check("folder", true, "runs can be written here".into()),
        Err(e) => check("folder", false, format!("nothing can be written here ({e}); use --out for runs")),
    });
    checks
}

/// Speed of square matrix products: 2·n³ operations each.
fn gemm_gflops() -> f64 {
    let a: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 7) as f32 - 3.0).collect();
    let b: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 5) as f32 - 2.0).collect();
    let mut c = vec![0.0f32; SIDE * SIDE];
    let mut multiply = || {
        let (a, b) = (Mat::new(&a, SIDE, SIDE), Mat::new(&b, SIDE, SIDE));
        kernels::gemm(a, b, MatMut::new(&mut c, SIDE, SIDE), false);
    };
    // The first product starts the threads.
    multiply();
    let (began, mut products) = (Instant::now(), 0u32);
    while began.elapsed() < MEASURED {
        multiply();
        products += 1;
    }
    f64::from(products) * 2.0 * (SIDE as f64).powi(3) / began.elapsed().as_secs_f64() / 1e9
}

fn memory_available() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// What a container's control group allows.
fn memory_limit() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = files.iter().find_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok())?;
    // Version 1 writes "no limit" as a number near 2⁶³.
    (limit < 1 << 60).then_some(limit)
}

/// Asks `df`, because the standard library cannot.
fn disk_available() -> Option<u64> {
    let output = Command::new("df").args(["-Pk", "."]).output().ok().filter(|o| o.status.success())?;
    available_of_df(&String::from_utf8_lossy(&output.stdout))
}

fn available_of_df(table: &str) -> Option<u64> {
    let kibibytes: u64 = table.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn writable() -> std::io::Result<()> {
    let probe = format!(".amend-doctor-{}", std::process::id());
    fs::write(&probe, b"")?;
    fs::remove_file(&probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn df_is_read() {
        let table = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/a 100 40 60 40% /\n";
        assert_eq!(available_of_df(table), Some(60 * 1024));
        assert_eq!(available_of_df("nonsense"), None);
    }

    #[test]
    fn a_slow_or_full_machine_is_warned_about() {
        let findings = |simd, disk| Findings {
            version: "",
            machine: Machine { cpu: "x".into(), cores: 2, memory: None, system: "s".into() },
            simd,
            threads: 2,
            memory_available: Some(8 << 30),
            memory_limit: None,
            disk_available: Some(disk),
            gemm_gflops: 1.0,
            checks: Vec::new(),
        };
        let warned = |findings: &Findings| -> Vec<&str> {
            checks(findings).into_iter().filter(|c| !c.ok && c.name != "build").map(|c| c.name).collect()
        };
        assert!(warned(&findings("avx512", 5 << 30)).is_empty());
        assert_eq!(warned(&findings("portable", 1 << 20)), ["simd", "disk"]);
    }
}
