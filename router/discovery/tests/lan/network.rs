//! A local network out of network namespaces: one holds a bridge, each host's cards are plugged into it.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The network, and a host on it (192.0.2.1) from which the tests look.
pub(crate) struct Lan {
    prefix: String,
    hosts: Cell<u32>,
}

/// A machine on the network. It goes with the network.
pub(crate) struct Host {
    namespace: String,
}

static LANS: AtomicU32 = AtomicU32::new(0);

impl Lan {
    pub(crate) fn new() -> Self {
        let number = LANS.fetch_add(1, Ordering::Relaxed);
        let lan = Self { prefix: format!("allerac-{}-{number}", std::process::id()), hosts: Cell::new(0) };
        add_namespace(&lan.prefix);
        ip(&["-n", &lan.prefix, "link", "add", "bridge", "type", "bridge", "stp_state", "0"]);
        // Without it, the bridge forwards multicast only where it has seen somebody ask for it.
        ip(&["-n", &lan.prefix, "link", "set", "bridge", "type", "bridge", "mcast_snooping", "0"]);
        ip(&["-n", &lan.prefix, "address", "add", "192.0.2.1/24", "dev", "bridge"]);
        ip(&["-n", &lan.prefix, "link", "set", "bridge", "up"]);
        ip(&["-n", &lan.prefix, "route", "add", "224.0.0.0/4", "dev", "bridge"]);
        lan
    }

    /// Adds a machine with one network card for each address.
    pub(crate) fn add_host(&self, addresses: &[&str]) -> Host {
        let number = self.hosts.get();
        self.hosts.set(number + 1);
        let host = Host { namespace: format!("{}-{number}", self.prefix) };
        add_namespace(&host.namespace);
        for (index, address) in addresses.iter().enumerate() {
            let (port, card) = (format!("port{number}-{index}"), format!("eth{index}"));
            let veth = ["link", "add", &port, "type", "veth", "peer", "name", &card, "netns", &host.namespace];
            ip(&[&["-n", &self.prefix], &veth[..]].concat());
            ip(&["-n", &self.prefix, "link", "set", &port, "master", "bridge", "up"]);
            ip(&["-n", &host.namespace, "address", "add", &format!("{address}/24"), "dev", &card]);
            ip(&["-n", &host.namespace, "link", "set", &card, "up"]);
        }
        host
    }

    /// Runs `work` on the network's own host.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        enter(&self.prefix, work)
    }
}

impl Host {
    /// Runs `work` on this machine; threads that it starts stay there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        enter(&self.namespace, work)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for number in 0..self.hosts.get() {
            let _ = Command::new("ip").args(["netns", "delete", &format!("{}-{number}", self.prefix)]).status();
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.prefix]).status();
    }
}

fn enter<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    let run = || {
        // A namespace belongs to a thread; this one ends with the work.
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("cannot enter the namespace");
        work()
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn add_namespace(name: &str) {
    ip(&["netns", "add", name]);
    // A card whose IPv6 address is still being checked for duplicates cannot send yet.
    enter(name, || fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").ok());
    ip(&["-n", name, "link", "set", "lo", "up"]);
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("`ip` is missing: apt install iproute2");
    assert!(
        output.status.success(),
        "`ip {}` failed: {}these tests build networks out of namespaces and need root (CAP_NET_ADMIN, CAP_SYS_ADMIN)",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr),
    );
}
