//! What a container uses, read from its control group and its network namespace; no program is started for it.

use std::fs;

use super::super::RuntimeError;
use super::cgroup::{Group, value_of};
use super::{Containerd, client};
use crate::model::ContainerId;
use crate::model::stats::{BlkioStats, CpuStats, MemoryStats, NetworkStats, Stats};

impl Containerd {
    /// What a container uses. Refused when it does not run.
    pub async fn stats(&self, id: ContainerId) -> Result<Stats, RuntimeError> {
        let (task, _) = self.inner.running(id).await?;
        let group = Group::of(&self.inner.host, id);
        let devices = fs::read_to_string(format!("/proc/{}/net/dev", task.pid));
        let devices = devices.map_err(|error| {
            let words = super::attach::not_running(id);
            client::broken(super::super::Failure::Refused, words, error)
        })?;
        let networks = networks(&devices);
        let at = self.inner.now();
        let limit = group.number("pids", "pids.max");
        Ok(Stats {
            at,
            cpu: cpu(&group),
            memory: memory(&group),
            pids: group.number("pids", "pids.current"),
            pids_limit: limit,
            blkio: blkio(&group),
            networks,
        })
    }
}

fn cpu(group: &Group) -> CpuStats {
    let stat = group.read("cpu", "cpu.stat");
    let value = |key| value_of(&stat, key);
    if group.unified {
        return CpuStats {
            total: value("usage_usec") * 1000,
            user: value("user_usec") * 1000,
            system: value("system_usec") * 1000,
            periods: value("nr_periods"),
            throttled_periods: value("nr_throttled"),
            throttled: value("throttled_usec") * 1000,
        };
    }
    CpuStats {
        total: group.number("cpuacct", "cpuacct.usage"),
        user: group.number("cpuacct", "cpuacct.usage_user"),
        system: group.number("cpuacct", "cpuacct.usage_sys"),
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled: value("throttled_time"),
    }
}

fn memory(group: &Group) -> MemoryStats {
    let stat = group.read("memory", "memory.stat");
    let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let machine = machine
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .unwrap_or(0)
        * 1024;
    let (usage, limit, inactive) = if group.unified {
        ("memory.current", "memory.max", "inactive_file")
    } else {
        (
            "memory.usage_in_bytes",
            "memory.limit_in_bytes",
            "total_inactive_file",
        )
    };
    let limit = group.number("memory", limit);
    let events = if group.unified {
        group.read("memory", "memory.events")
    } else {
        group.read("memory", "memory.oom_control")
    };
    MemoryStats {
        usage: group.number("memory", usage),
        inactive_file: value_of(&stat, inactive),
        limit: if limit == 0 || limit > machine {
            machine
        } else {
            limit
        },
        oom_kills: value_of(&events, "oom_kill"),
    }
}

fn blkio(group: &Group) -> BlkioStats {
    if group.unified {
        let text = group.read("io", "io.stat");
        let sum = |key: &str| {
            let fields = text
                .split_whitespace()
                .filter_map(|field| field.split_once('='));
            let values = fields.filter(|(name, _)| *name == key);
            values
                .filter_map(|(_, value)| value.parse::<u64>().ok())
                .sum()
        };
        return BlkioStats {
            read_bytes: sum("rbytes"),
            write_bytes: sum("wbytes"),
            reads: sum("rios"),
            writes: sum("wios"),
        };
    }
    let sum = |file: &str, what: &str| {
        let text = group.read("blkio", file);
        let lines = text.lines().filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            (fields.next() == Some(what)).then(|| fields.next()?.parse::<u64>().ok())?
        });
        lines.sum()
    };
    let (bytes, times) = (
        "blkio.throttle.io_service_bytes",
        "blkio.throttle.io_serviced",
    );
    BlkioStats {
        read_bytes: sum(bytes, "Read"),
        write_bytes: sum(bytes, "Write"),
        reads: sum(times, "Read"),
        writes: sum(times, "Write"),
    }
}

/// The interfaces in the kernel's table, but the loopback.
fn networks(table: &str) -> Vec<NetworkStats> {
    let lines = table.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .map_while(|number| number.parse().ok())
            .collect();
        let four = |from: usize| <[u64; 4]>::try_from(numbers.get(from..from + 4)?).ok();
        Some(NetworkStats {
            name: name.trim().to_owned(),
            received: four(0)?,
            sent: four(8)?,
        })
    });
    lines.filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_interfaces_is_read() {
        let table = "Inter-|   Receive      |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
            \x20   lo:  5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  eth0: 900 9 1 2 0 0 0 0 700 7 3 4 0 0 0 0\n";
        let eth0 = NetworkStats {
            name: "eth0".to_owned(),
            received: [900, 9, 1, 2],
            sent: [700, 7, 3, 4],
        };
        assert_eq!(networks(table), [eth0]);
    }
}
