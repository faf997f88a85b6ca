//! What can be asked of `up`.

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::project;

/// The options, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub data: PathBuf,
    /// 0 is any.
    pub port: u16,
    /// 0 is any.
    pub nats_port: u16,
    pub profile: String,
    pub demo: bool,
    /// Bus and hub with TLS.
    pub tls: bool,
    pub json: bool,
    pub stop_sessions: bool,
    pub node_config: Option<PathBuf>,
    /// Takes the programs from here instead of building them.
    pub bin_dir: Option<PathBuf>,
}

impl Options {
    /// Reads `--name value` and `--name=value`.
    pub fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut options = Self {
            data: project::root().join(".mosaic"),
            port: 7420,
            nats_port: 4222,
            profile: "up".into(),
            demo: true,
            tls: false,
            json: false,
            stop_sessions: true,
            node_config: None,
            bin_dir: None,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (name, given) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let mut value =
                || given.clone().or_else(|| rest.next().cloned()).with_context(|| format!("{name} needs a value"));
            match name {
                "--data" => options.data = value()?.into(),
                "--port" => options.port = port(name, &value()?)?,
                "--nats-port" => options.nats_port = port(name, &value()?)?,
                "--node-config" => options.node_config = Some(value()?.into()),
                "--bin-dir" => options.bin_dir = Some(value()?.into()),
                "--profile" => {
                    options.profile = value()?;
                    if !["up", "release", "dev"].contains(&options.profile.as_str()) {
                        bail!("--profile {:?}: up, release or dev", options.profile);
                    }
                }
                "--no-demo" => options.demo = !switch(name, given.as_deref())?,
                "--tls" => options.tls = switch(name, given.as_deref())?,
                "--json" => options.json = switch(name, given.as_deref())?,
                "--stop-sessions" => options.stop_sessions = switch(name, given.as_deref())?,
                other => bail!("unknown argument {other:?}; see `cargo xtask help`"),
            }
        }
        for path in
            [Some(&mut options.data), options.node_config.as_mut(), options.bin_dir.as_mut()].into_iter().flatten()
        {
            *path = std::path::absolute(&*path).with_context(|| format!("the path {}", path.display()))?;
        }
        if let Some(file) = options.node_config.as_ref().filter(|file| !file.is_file()) {
            bail!("--node-config {}: no such file", file.display());
        }
        Ok(options)
    }

    /// Says which port is taken before anything is started.
    pub fn check_ports(&self) -> anyhow::Result<()> {
        for (name, port) in [("--port", self.port), ("--nats-port", self.nats_port)] {
            if port != 0 && TcpListener::bind(("127.0.0.1", port)).is_err() {
                bail!(
                    "port {port} is taken by another program; choose one with {name} N, or {name} 0 for any free one"
                );
            }
        }
        Ok(())
    }
}

fn port(name: &str, text: &str) -> anyhow::Result<u16> {
    text.parse().with_context(|| format!("{name} {text:?}: a number from 0 to 65535"))
}

fn switch(name: &str, given: Option<&str>) -> anyhow::Result<bool> {
    match given {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => bail!("{name}={other}: true or false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Options> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn both_ways_to_give_a_value() {
        let options =
            parse("--data /d --port=0 --nats-port 4000 --no-demo --tls --json --stop-sessions=false --profile dev")
                .unwrap();
        assert_eq!((options.port, options.nats_port, options.demo, options.json), (0, 4000, false, true));
        assert_eq!((options.data.to_str(), options.profile.as_str()), (Some("/d"), "dev"));
        assert!(!options.stop_sessions && options.tls);
        let options = parse("").unwrap();
        assert_eq!((options.port, options.nats_port, options.stop_sessions), (7420, 4222, true));
        assert!(options.data.is_absolute() && options.data.ends_with(".mosaic"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("--port x", "--port"),
            ("--port", "needs a value"),
            ("--profile fast", "up, release or dev"),
            ("--stop-sessions=maybe", "true or false"),
            ("--node-config /nowhere.toml", "no such file"),
            ("--verbose", "unknown argument"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = parse(&format!("--port 0 --nats-port {port}")).unwrap().check_ports().unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--nats-port 0"), "{error}");
    }
}
