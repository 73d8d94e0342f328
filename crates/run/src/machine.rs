//! The machine a run happens on, as far as its figures depend on it.

use std::fs;

use serde::{Deserialize, Serialize};

/// What `run.json` says about the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's own name, or its architecture where the system does not tell.
    pub cpu: String,
    /// Threads that can run at once for this process.
    pub cores: usize,
    /// Memory in bytes; `None` where the system does not tell.
    pub memory: Option<u64>,
    /// Operating system and architecture: `linux x86_64`.
    pub system: String,
}

impl Machine {
    /// Asks the system. Never fails: what is not known is left out.
    pub fn detect() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: cpu_name(&read("/proc/cpuinfo")).unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: total_memory(&read("/proc/meminfo")),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} threads", self.cpu, self.cores)?;
        if let Some(bytes) = self.memory {
            write!(f, ", {:.0} GiB", bytes as f64 / (1u64 << 30) as f64)?;
        }
        write!(f, ", {}", self.system)
    }
}

/// x86 calls it "model name"; some ARM kernels "Model" or "Hardware".
fn cpu_name(cpuinfo: &str) -> Option<String> {
    ["model name", "Model", "Hardware"].iter().find_map(|wanted| {
        let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(key, _)| key.trim() == *wanted).map(|(_, value)| value);
        values.next().map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "))
    })
}

/// The most memory in bytes that this process has had resident so far; `None` where the system does not tell.
pub fn peak_memory() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// The most memory in bytes that this process may have: the machine's, within what its group is allowed; `None` where
/// the system does not tell.
pub fn memory_limit() -> Option<u64> {
    let system = total_memory(&fs::read_to_string("/proc/meminfo").ok()?)?;
    Some(group_memory("max").map_or(system, |limit| limit.min(system)))
}

/// Memory in bytes that this process could still get: what the system could give without swapping, within what its group
/// is allowed; `None` where the system does not tell.
pub fn available_memory() -> Option<u64> {
    let system = kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    let group = group_memory("max").zip(group_memory("current"));
    Some(group.map_or(system, |(limit, used)| limit.saturating_sub(used).min(system)))
}

/// What the kernel says of the memory of a container's group, in bytes; `None` where there is no limit.
fn group_memory(what: &str) -> Option<u64> {
    fs::read_to_string(format!("/sys/fs/cgroup/memory.{what}")).ok()?.trim().parse().ok()
}

/// The memory in bytes that this process has resident now; `None` where the system does not tell.
pub fn resident_memory() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

fn total_memory(meminfo: &str) -> Option<u64> {
    kibibytes(meminfo, "MemTotal:")
}

/// The bytes of a line such as `MemTotal:  16384 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_says() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 68\nmodel name\t: AMD  EPYC 9R45\n\nprocessor\t: 1\n";
        assert_eq!(cpu_name(cpuinfo).as_deref(), Some("AMD EPYC 9R45"));
        assert_eq!(total_memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!((cpu_name(""), total_memory("")), (None, None));
    }

    #[test]
    fn detects_something_anywhere() {
        let machine = Machine::detect();
        assert!(machine.cores >= 1 && !machine.cpu.is_empty());
        assert!(machine.to_string().contains("threads"));
    }
}
