//! A program of somebody else that a test talks to, such as a proxy or a web server.
//!
//! Owns its process, its directory and what it writes. It runs as whoever runs the tests, and ends with the value, also when
//! the test panics.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::wait::until;

const OUTPUT: &str = "output.log";

/// A directory for a program, before it runs.
#[derive(Debug)]
pub struct Place(TempDir);

impl Default for Place {
    fn default() -> Self {
        Self(TempDir::new().expect("there is a directory for temporary files"))
    }
}

impl Place {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, and says where it is.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).expect("the directory takes files");
        path
    }

    /// Runs `program` here, and waits until it accepts connections at `address`.
    ///
    /// # Panics
    /// When it does not start, with what it said.
    pub async fn run(self, program: &str, arguments: &[&str], address: SocketAddr) -> Program {
        let output = File::create(self.path().join(OUTPUT)).expect("the directory takes files");
        let errors = output.try_clone().expect("a file can be written by two");
        let mut command = command(program);
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| panic!("{program} starts: {error}"));
        let mut running = Program { child, place: self };
        until(&format!("{program} accepts connections at {address}"), async || {
            if let Ok(Some(status)) = running.child.try_wait() {
                panic!("{program} ended with {status}: {}", running.read(OUTPUT));
            }
            TcpStream::connect(address).await.ok()
        })
        .await;
        running
    }
}

/// A program that runs.
#[derive(Debug)]
pub struct Program {
    child: Child,
    place: Place,
}

impl Program {
    /// What it has written into a file of its directory; nothing while there is none.
    #[must_use]
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.place.path().join(file)).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // What has ended already needs no end.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Whether a program is here: it says its version.
#[must_use]
pub fn is_installed(program: &str, version: &str) -> bool {
    command(program).arg(version).output().is_ok_and(|output| output.status.success())
}

/// Servers are where the search path of people who are not root does not lead.
fn command(program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.env("PATH", format!("{path}:/usr/sbin"));
    command
}
