//! Hosts that can be cut off: network namespaces on one bridge of this machine.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

/// Namespaces with a link each to one bridge, which has an address on this machine. Removed when dropped.
///
/// Their names are those of this process, so that several tests do not meet.
#[derive(Debug)]
pub struct Networks {
    id: u32,
    hosts: usize,
}

impl Networks {
    /// So many hosts. `Err` in the inner result is the reason why this machine cannot have any: no `ip`, or no right
    /// to use it.
    ///
    /// # Errors
    /// They cannot be made although they may be.
    pub fn new(hosts: usize) -> anyhow::Result<Result<Self, String>> {
        if Command::new("ip").arg("-V").output().is_err() {
            return Ok(Err("there is no `ip`: apt-get install iproute2".into()));
        }
        let networks = Self { id: std::process::id(), hosts };
        let bridge = networks.bridge();
        if let Err(error) = ip(&["link", "add", &bridge, "type", "bridge"]) {
            let text = error.to_string();
            let is_forbidden = text.contains("not permitted") || text.contains("ermission denied");
            return if is_forbidden { Ok(Err(format!("not root: {text}"))) } else { Err(error) };
        }
        ip(&["address", "add", &format!("{}/24", networks.address()), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for host in 0..hosts {
            let (space, outer) = (networks.space(host), networks.link(host));
            ip(&["netns", "add", &space])?;
            ip(&["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
            ip(&["link", "set", &outer, "master", &bridge, "up"])?;
            let address = format!("10.213.{}.{}/24", networks.id % 250, host + 2);
            ip(&["-n", &space, "address", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
            ip(&["-n", &space, "link", "set", "eth0", "up"])?;
        }
        Ok(Ok(networks))
    }

    fn bridge(&self) -> String {
        format!("mm{}", self.id)
    }

    fn link(&self, host: usize) -> String {
        format!("mm{}h{host}", self.id)
    }

    fn space(&self, host: usize) -> String {
        format!("mosaic-{}-{host}", self.id)
    }

    /// The address of this machine that every host reaches.
    pub fn address(&self) -> String {
        format!("10.213.{}.1", self.id % 250)
    }

    /// What stands before a program that is to run on a host.
    pub fn on(&self, host: usize) -> [String; 2] {
        let space = PathBuf::from("/run/netns").join(self.space(host));
        ["nsenter".into(), format!("--net={}", space.display())]
    }

    /// Cuts a host off: nothing says so to either side.
    ///
    /// # Errors
    /// It cannot be cut off.
    pub fn cut(&self, host: usize) -> anyhow::Result<()> {
        ip(&["link", "set", &self.link(host), "down"])
    }

    /// Lets it be reached again.
    ///
    /// # Errors
    /// It cannot.
    pub fn mend(&self, host: usize) -> anyhow::Result<()> {
        ip(&["link", "set", &self.link(host), "up"])
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        // What was not made cannot be taken away; the links go with their namespaces.
        for host in 0..self.hosts {
            let _ = ip(&["link", "delete", &self.link(host)]);
            let _ = ip(&["netns", "delete", &self.space(host)]);
        }
        let _ = ip(&["link", "delete", &self.bridge()]);
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let out = Command::new("ip").args(arguments).output().context("run ip")?;
    if !out.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}
