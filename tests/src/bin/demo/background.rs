//! `up` and `down`: the same stack, running in the background until it is told to end.
//!
//! Must not: signal a process that it did not start; the pid file is believed only when that pid runs this program.
//! Invariant: the folder exists while something runs, and holds its pid, its log and a kubeconfig.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tests::control_plane::repository;
use tests::wait::eventually;
use tokio::signal::unix::{SignalKind, signal};

use crate::show::{bold, say};
use crate::stack::Stack;

const UP_WITHIN: Duration = Duration::from_mins(3);
const DOWN_WITHIN: Duration = Duration::from_mins(1);

/// The files in the folder.
struct Files {
    folder: PathBuf,
    pid: PathBuf,
    log: PathBuf,
    kubeconfig: PathBuf,
}

impl Files {
    fn new(folder: PathBuf) -> Self {
        let [pid, log, kubeconfig] = ["pid", "log", "kubeconfig"].map(|name| folder.join(name));
        Self { folder, pid, log, kubeconfig }
    }

    /// The process that serves, if it still does.
    fn running(&self) -> Option<Pid> {
        let pid: i32 = std::fs::read_to_string(&self.pid).ok()?.trim().parse().ok()?;
        // The number may belong to another program by now.
        let command =
            Command::new("ps").args(["-ww", "-o", "args=", "-p", &pid.to_string()]).output().ok()?;
        let ours = format!("demo serve --folder {}", self.folder.display());
        let serves = String::from_utf8_lossy(&command.stdout).trim().ends_with(&ours);
        Pid::from_raw(pid).filter(|_| serves)
    }
}

/// Starts `serve` in the background, shows its progress and says how to use it.
pub(crate) async fn up(folder: PathBuf) -> Result<()> {
    let files = Files::new(folder);
    if files.running().is_some() {
        say("it is running already");
        say(&usage(&files)?);
        return Ok(());
    }
    std::fs::remove_dir_all(&files.folder).ok();
    std::fs::create_dir_all(&files.folder)
        .with_context(|| format!("can't make {}", files.folder.display()))?;
    let log = std::fs::File::create(&files.log)?;
    let mut server = Command::new(std::env::current_exe()?)
        .args(["serve", "--folder"])
        .arg(&files.folder)
        .stdin(Stdio::null())
        .stderr(log.try_clone()?)
        .stdout(log)
        .spawn()
        .context("can't start the background process")?;
    std::fs::write(&files.pid, server.id().to_string())?;

    let mut progress = std::fs::File::open(&files.log)?;
    let mut shown = 0;
    let ready = eventually(UP_WITHIN, "everything should be up", async || {
        let ended = server.try_wait()?;
        let mut text = String::new();
        progress.seek(SeekFrom::Start(shown))?;
        shown += u64::try_from(progress.read_to_string(&mut text)?)?;
        print!("{text}");
        if let Some(status) = ended {
            return Ok(Some(Err(status)));
        }
        Ok(files.kubeconfig.exists().then_some(Ok(())))
    });
    if let Err(status) = ready.await? {
        std::fs::remove_dir_all(&files.folder).ok();
        bail!("the background process ended with {status}: see the lines above");
    }
    say(&usage(&files)?);
    Ok(())
}

/// What runs in the background.
pub(crate) async fn serve(folder: PathBuf) -> Result<()> {
    // A session of its own: neither Ctrl-C nor the end of the terminal reaches it. It fails for a leader, which has one.
    rustix::process::setsid().ok();
    let files = Files::new(folder);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stack = Stack::start().await?;
    // Written last: whoever waits for it finds everything ready.
    let draft = files.folder.join("kubeconfig.draft");
    std::fs::copy(stack.plane.kubeconfig(), &draft)?;
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&draft, &files.kubeconfig)?;

    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = tick.tick() => stack.ensure_running()?,
        }
    }
    let code = stack.operator.terminate().await?;
    std::fs::remove_dir_all(&files.folder).ok();
    ensure!(code == 0, "the operator exited with {code}");
    Ok(())
}

/// Ends what `up` started.
pub(crate) async fn down(folder: PathBuf) -> Result<()> {
    let files = Files::new(folder);
    let Some(pid) = files.running() else {
        std::fs::remove_dir_all(&files.folder).ok();
        say("nothing is running");
        return Ok(());
    };
    kill_process(pid, Signal::TERM).context("can't signal it")?;
    eventually(DOWN_WITHIN, "it should end", async || Ok(files.running().is_none().then_some(()))).await?;
    std::fs::remove_dir_all(&files.folder).ok();
    say("stopped");
    Ok(())
}

fn usage(files: &Files) -> Result<String> {
    let tools = Command::new(repository().join("tools/controlplane/build.sh")).output()?;
    let tools = String::from_utf8_lossy(&tools.stdout).trim().to_owned();
    Ok(format!(
        "\nIn your shell:\n  {}\n  export PATH=\"{tools}:$PATH\"      # for kubectl and helm\n\nThen\n  \
        kubectl apply -f manifests/samples\n  kubectl get emr -o wide --watch\n\n\
        The log is {}; `make down` ends it all.",
        bold(&format!("export KUBECONFIG=\"{}\"", files.kubeconfig.display())),
        files.log.display()
    ))
}
