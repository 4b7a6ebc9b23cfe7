//! Machines on one cable: network namespaces on a bridge that is in one of its own. Nothing of this machine's own
//! network is touched.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Runtime};

/// The address of the bridge; machines are numbered from one on the same cable.
pub(crate) const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 254);

/// Some machines. They go when it is dropped.
pub(crate) struct Lan {
    name: String,
    size: usize,
}

impl Lan {
    /// So many machines.
    pub(crate) fn up(size: usize) -> Result<Self, String> {
        let name = format!("skein-rt-{}", std::process::id());
        let lan = Self { name, size };
        let bridge = lan.of(0);
        ip(&["netns", "add", &bridge])?;
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge"])?;
        let address = format!("{BRIDGE}/24");
        ip(&["-n", &bridge, "address", "add", &address, "dev", "br0"])?;
        for link in ["lo", "br0"] {
            ip(&["-n", &bridge, "link", "set", link, "up"])?;
        }
        for machine in 1..=size {
            lan.plug(machine)?;
        }
        Ok(lan)
    }

    fn plug(&self, machine: usize) -> Result<(), String> {
        let (bridge, namespace) = (self.of(0), self.of(machine));
        let (port, address) = (format!("m{machine}"), Self::address(machine));
        ip(&["netns", "add", &namespace])?;
        ip(&[
            "-n", &bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
            &namespace,
        ])?;
        ip(&["-n", &bridge, "link", "set", &port, "master", "br0", "up"])?;
        let address = format!("{address}/24");
        ip(&["-n", &namespace, "address", "add", &address, "dev", "eth0"])?;
        for link in ["lo", "eth0"] {
            ip(&["-n", &namespace, "link", "set", link, "up"])?;
        }
        Ok(())
    }

    /// The namespace of a machine; of the bridge for zero.
    fn of(&self, machine: usize) -> String {
        format!("{}-{machine}", self.name)
    }

    /// Where a machine is.
    pub(crate) fn address(machine: usize) -> Ipv4Addr {
        let [a, b, c, _] = BRIDGE.octets();
        Ipv4Addr::new(a, b, c, u8::try_from(machine).unwrap_or(u8::MAX))
    }

    fn file(&self, machine: usize) -> Result<File, String> {
        let path = format!("/run/netns/{}", self.of(machine));
        File::open(&path).map_err(|error| format!("{path}: {error}"))
    }

    /// Threads on a machine: what they open is there.
    pub(crate) fn threads(&self, machine: usize) -> Result<Runtime, String> {
        let namespace = self.file(machine)?;
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2).enable_all();
        builder.on_thread_start(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
        });
        let built = builder.build();
        built.map_err(|error| format!("no threads can be had: {error}"))
    }

    /// A port of the bridge's own address.
    pub(crate) fn listen(&self) -> Result<TcpListener, String> {
        let namespace = self.file(0)?;
        // A thread that ends, for it does not come back from where it goes.
        let listening = thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            let listener = TcpListener::bind((BRIDGE, 0))?;
            listener.set_nonblocking(true)?;
            std::io::Result::Ok(listener)
        });
        let listener = listening.join().map_err(|_| "a thread ended early")?;
        listener.map_err(|error| format!("{BRIDGE} cannot be listened on: {error}"))
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for machine in 0..=self.size {
            let _ = ip(&["netns", "delete", &self.of(machine)]);
        }
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output();
    let output = output.map_err(|error| format!("the program ip cannot be run: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
