//! Ties servers and directories to the life of this process, also when it panics, is killed or interrupted.
//!
//! A guard is a small `sh` that reads a pipe whose only writer is this process. When this process ends, for whatever
//! reason, the kernel closes the pipe and the guard cleans up. It has its own process group and ignores
//! INT, TERM and HUP, so a Ctrl-C at the terminal reaches neither it nor its server before the clean-up.
//!
//! Must not: need `unsafe` (so no `prctl`), leave a writer of the pipe in any other process.
//! Invariant: no server and no directory outlives the process that owns the guard by more than a moment.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};

/// Starts the server in the background, prints its pid, kills it at the end of the pipe, prints its exit code.
///
/// A background command of `sh` reads from /dev/null, hence the detour over descriptor 3.
const SERVER_SCRIPT: &str = r#"
log=$1; shift
trap '' INT TERM HUP
exec 3<&0
( trap - INT TERM HUP; exec 3<&-; exec "$@" </dev/null >>"$log" 2>&1 ) &
server=$!
echo "$server"
{ while read -r _; do :; done; kill -KILL "$server"; } <&3 &
reader=$!
exec 3<&-
wait "$server"; code=$?
kill -KILL "$reader"; wait "$reader"
echo "$code"
"#;

/// Removes a directory at the end of the pipe. The servers that write into it die at the same moment, hence the tries.
const DIRECTORY_SCRIPT: &str = r#"
trap '' INT TERM HUP
echo ready
while read -r _; do :; done
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && exit; sleep 0.2; done
"#;

/// A running guard: dropping the lifeline makes it clean up.
pub(crate) struct Guard {
    pub(crate) lifeline: ChildStdin,
    pub(crate) shell: Child,
    pub(crate) output: BufReader<ChildStdout>,
    /// The first line that the guard said.
    pub(crate) greeting: String,
}

impl Guard {
    fn start(mut shell: Command) -> Result<Self> {
        let mut shell = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("can't start sh")?;
        let lifeline = shell.stdin.take().context("sh has no standard input")?;
        let mut output = BufReader::new(shell.stdout.take().context("sh has no standard output")?);
        let mut greeting = String::new();
        output.read_line(&mut greeting).context("the guard said nothing")?;
        Ok(Self { lifeline, shell, output, greeting: greeting.trim().to_owned() })
    }

    /// Starts `server` behind a guard; its output is appended to `log`.
    pub(crate) fn server(server: &Command, log: &Path) -> Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", SERVER_SCRIPT, "guard"]).arg(log).arg(server.get_program()).args(server.get_args());
        for (key, value) in server.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        if let Some(dir) = server.get_current_dir() {
            shell.current_dir(dir);
        }
        Self::start(shell)
    }
}

/// A directory that is gone when this value or this process is gone.
///
/// `KEEP_TEST_FILES=1` keeps it, to look at logs and data afterwards.
pub struct Scratch {
    path: PathBuf,
    _guard: Option<Guard>,
}

impl Scratch {
    /// Makes an empty directory under the system's temporary directory.
    pub fn create(prefix: &str) -> Result<Self> {
        let path =
            tempfile::Builder::new().prefix(prefix).tempdir().context("can't make a directory")?.keep();
        if std::env::var_os("KEEP_TEST_FILES").is_some() {
            eprintln!("keeping {}", path.display());
            return Ok(Self { path, _guard: None });
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", DIRECTORY_SCRIPT, "guard"]).arg(&path);
        Ok(Self { path, _guard: Some(Guard::start(shell)?) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
