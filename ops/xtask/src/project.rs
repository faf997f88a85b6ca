//! Where things are.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The dashboard, once it is there.
pub(crate) fn dashboard() -> Option<PathBuf> {
    let dir = root().join("dashboard");
    dir.join("package.json").is_file().then_some(dir)
}

/// Where fetched programs are kept: `MOSAIC_CACHE`, else `~/.cache/mosaic-mesh`.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("MOSAIC_CACHE").filter(|dir| !dir.is_empty()) {
        return Ok(PathBuf::from(dir));
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.context("HOME is not set; name a folder for fetched programs by MOSAIC_CACHE")?;
    Ok(PathBuf::from(home).join(".cache/mosaic-mesh"))
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        // Cargo takes it relative to where it was started, which is where we are.
        Some(dir) => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
        // Cargo's own configuration may say another folder; we were built into it, as TARGET/debug/xtask.
        None => {
            let own = std::env::current_exe().ok();
            let target = own.as_deref().and_then(Path::parent).and_then(Path::parent);
            target.map_or_else(|| root().join("target"), Path::to_owned)
        }
    }
}

/// The folder in `target` for what a profile builds.
pub(crate) fn profile_dir(profile: &str) -> PathBuf {
    target().join(if profile == "dev" { "debug" } else { profile })
}

/// Finds a program on `PATH`.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}
