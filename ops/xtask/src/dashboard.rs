//! Building and checking the page.
//!
//! Law: nothing is done twice. What was installed or built is marked with a fingerprint of what it was made from.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::Context;

use crate::{project, run, say, tools};

/// The page's folder and the node that builds it.
pub(crate) struct Dashboard {
    dir: PathBuf,
    node: PathBuf,
}

impl Dashboard {
    /// The page, if this tree has it; node is fetched if need be.
    pub fn find() -> anyhow::Result<Option<Self>> {
        let Some(dir) = project::dashboard() else { return Ok(None) };
        Ok(Some(Self { dir, node: tools::NODE.get()? }))
    }

    /// `npm ci`, unless it was done for this lock file.
    pub fn install(&self) -> anyhow::Result<()> {
        let lock = self.dir.join("package-lock.json");
        let lock = std::fs::read(&lock).with_context(|| format!("read {}", lock.display()))?;
        self.once("installed", fingerprint_of(&lock), "installing the page's packages (npm ci)", || {
            run::run(self.npm()?.args(["ci", "--no-audit", "--no-fund"]))
        })
    }

    /// The built page, made anew if its sources changed.
    pub fn build(&self) -> anyhow::Result<()> {
        self.install()?;
        let mut hasher = DefaultHasher::new();
        self.sources(&self.dir, &mut hasher)?;
        if !self.dir.join("dist/index.html").is_file() {
            // Somebody removed it, or it was never there.
            match std::fs::remove_file(self.mark("built")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        self.once("built", hasher.finish(), "building the page", || self.script("build"))
    }

    /// Runs one of its scripts.
    pub fn script(&self, name: &str) -> anyhow::Result<()> {
        run::run(self.npm()?.args(["run", name]))
    }

    /// A command that runs one of its scripts, to be given an environment.
    pub fn script_command(&self, name: &str) -> anyhow::Result<Command> {
        let mut npm = self.npm()?;
        npm.args(["run", name]);
        Ok(npm)
    }

    /// What its end-to-end tests want a node to be able to start.
    pub fn e2e_node_config(&self) -> PathBuf {
        self.dir.join("e2e/node.toml")
    }

    /// Makes its types from the hub's OpenAPI document, or (`check`) fails if they are others.
    pub fn types(&self, hub: &Path, check: bool) -> anyhow::Result<()> {
        let document = Command::new(hub).arg("openapi").output().with_context(|| format!("run {}", hub.display()))?;
        anyhow::ensure!(document.status.success(), "{} openapi: {}", hub.display(), document.status);
        let file = self.dir.join("node_modules/.mosaic-openapi.json");
        std::fs::write(&file, document.stdout).with_context(|| format!("write {}", file.display()))?;
        let mut npm = self.script_command("gen")?;
        npm.arg("--").arg(&file);
        if check {
            npm.arg("--check");
        }
        run::run(&mut npm)
    }

    /// Npm in its folder, by the node that is ours.
    pub fn npm(&self) -> anyhow::Result<Command> {
        let bin = self.node.parent().unwrap_or(Path::new("/")).to_owned();
        let mut npm = Command::new(bin.join("npm"));
        // Scripts start `node` and `npm` by their names.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path)))?;
        npm.current_dir(&self.dir).env("PATH", path).env("npm_config_update_notifier", "false");
        Ok(npm)
    }

    fn mark(&self, what: &str) -> PathBuf {
        self.dir.join("node_modules").join(format!(".mosaic-{what}"))
    }

    /// Does something unless its mark says that it was done from the same.
    fn once(
        &self,
        mark: &str,
        fingerprint: u64,
        what: &str,
        work: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mark = self.mark(mark);
        let fingerprint = fingerprint.to_string();
        if std::fs::read_to_string(&mark).is_ok_and(|text| text == fingerprint) {
            return Ok(());
        }
        say::step(what);
        work()?;
        std::fs::write(&mark, fingerprint).with_context(|| format!("write {}", mark.display()))
    }

    /// Names, sizes and times of everything the page is made from.
    fn sources(&self, dir: &Path, hasher: &mut DefaultHasher) -> anyhow::Result<()> {
        let mut entries: Vec<_> = std::fs::read_dir(dir)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (name, meta) = (entry.file_name(), entry.metadata()?);
            if ["node_modules", "dist", "e2e", "gallery", "bench", "screenshots"].iter().any(|each| name == *each) {
                continue;
            }
            name.hash(hasher);
            if meta.is_dir() {
                self.sources(&entry.path(), hasher)?;
            } else {
                meta.len().hash(hasher);
                meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().hash(hasher);
            }
        }
        Ok(())
    }
}

fn fingerprint_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
