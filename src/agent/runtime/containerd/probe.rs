//! Whether crun makes containers on this machine: tried once, with a container that is never started; and what the
//! chosen program can do.
//!
//! crun takes a third less time than runc. It refuses some machines, those with hybrid control groups before all, and
//! says so only when it is asked to make something.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use super::ContainerdSettings;

/// Longest that an attempt may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The path of crun, when it is there and works.
pub(super) async fn better_runtime(settings: &ContainerdSettings) -> Option<String> {
    let crun = in_path("crun")?;
    match attempt(&crun, settings).await {
        Ok(()) => Some(crun.to_str()?.to_owned()),
        Err(reason) => {
            tracing::info!(%reason, "crun does not work on this machine: runc is used");
            None
        }
    }
}

/// Whether the program that makes containers can make a mount read-only with all that is below it: asked of itself,
/// which those can answer that can do it.
pub(super) async fn reads_only_below(program: Option<&str>) -> bool {
    #[derive(Deserialize)]
    struct Features {
        #[serde(default, rename = "mountOptions")]
        mount_options: Vec<String>,
    }
    let mut command = Command::new(program.unwrap_or("runc"));
    command
        .arg("features")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let Ok(Ok(said)) = timeout(DEADLINE, command.output()).await else {
        return false;
    };
    let features = serde_json::from_slice::<Features>(&said.stdout);
    features.is_ok_and(|features| features.mount_options.iter().any(|option| option == "rro"))
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| file.is_absolute() && file.is_file())
}

async fn attempt(crun: &Path, settings: &ContainerdSettings) -> Result<(), String> {
    let words = |error: std::io::Error| error.to_string();
    let name = format!("probe-{:016x}", rand::random::<u64>());
    let bundle = settings.state_dir.join(format!(".{name}"));
    std::fs::create_dir_all(bundle.join("rootfs")).map_err(words)?;
    let spec = json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": false},
        "process": {"args": ["/probe"], "cwd": "/", "env": ["PATH=/"], "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/probe", "type": "bind", "source": settings.helper, "options": ["bind", "ro"]}],
        "linux": {
            "cgroupsPath": format!("/{}/{name}", settings.cgroup_parent.trim_matches('/')),
            "resources": {"pids": {"limit": 16}},
            "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}],
        },
    });
    let written = std::fs::write(bundle.join("config.json"), spec.to_string());
    let made = match written {
        Ok(()) => run(crun, &bundle, &["create", &name]).await,
        Err(error) => Err(error.to_string()),
    };
    // Also after a failure: it may have come half the way.
    let deleted = run(crun, &bundle, &["delete", "--force", &name]).await;
    std::fs::remove_dir_all(&bundle).map_err(words)?;
    made.and(deleted)
}

async fn run(crun: &Path, bundle: &Path, args: &[&str]) -> Result<(), String> {
    let mut command = Command::new(crun);
    command
        .arg("--root")
        .arg(bundle.join("state"))
        .args(args)
        .current_dir(bundle)
        .stdin(Stdio::null())
        // To a file and not a pipe: what was made would hold the pipe open.
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(bundle.join("said")).map_err(|error| error.to_string())?)
        .kill_on_drop(true);
    let status = timeout(DEADLINE, command.status()).await;
    let status = status.map_err(|_| "it hangs".to_owned())?;
    if status.map_err(|error| error.to_string())?.success() {
        return Ok(());
    }
    let said = std::fs::read_to_string(bundle.join("said")).unwrap_or_default();
    Err(said.trim().to_owned())
}
