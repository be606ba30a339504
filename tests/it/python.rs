//! Python clients, each set fetched once into a folder of the user's cache.

use std::path::PathBuf;
use std::process::Command;

/// The folder to put into `PYTHONPATH` for exactly these packages, or why there is none.
pub fn packages(name: &str, wanted: &[&str]) -> Result<PathBuf, String> {
    let home = std::env::var("HOME").map_err(|_| "HOME is not set".to_owned())?;
    let cache = PathBuf::from(home).join(".cache/maturion");
    let folder = cache.join(format!("python-{name}"));
    if !folder.exists() {
        std::fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
        let fetching = tempfile::tempdir_in(&cache).map_err(|error| error.to_string())?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(fetching.path()).args(wanted);
        let fetched = pip.output().map_err(|error| format!("python3 cannot be run: {error}"))?;
        if !fetched.status.success() {
            return Err(format!("pip cannot fetch {wanted:?}: {}", String::from_utf8_lossy(&fetched.stderr)));
        }
        // Losing the race against another process is as good as winning it.
        let renamed = std::fs::rename(fetching.path(), &folder);
        renamed.or_else(|error| if folder.exists() { Ok(()) } else { Err(error.to_string()) })?;
    }
    Ok(folder)
}
