//! Finds the built dashboard for embedding; an empty folder stands in for one that was not built.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dashboard = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../dashboard");
    let built = dashboard.join("dist");
    println!("cargo::rerun-if-changed={}", dashboard.join("dist").display());
    let folder = if built.join("index.html").exists() {
        built
    } else {
        let empty = PathBuf::from(std::env::var("OUT_DIR")?).join("no-dashboard");
        std::fs::create_dir_all(&empty)?;
        empty
    };
    println!("cargo::rustc-env=MOSAIC_DASHBOARD_DIST={}", folder.display());
    Ok(())
}
