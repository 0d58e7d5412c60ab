//! Real clients: openssl and curl as processes.
//!
//! Owns their command lines and the files they read. Never judges what they say. Whoever uses them asks first whether they are
//! here, and says so when they are not.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Output, Stdio},
};

use federation_pki::{ca::Authority, svid::Svid};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{client::soon, skip};

/// Whether these programs are here; says so when one is not.
pub async fn have(programs: &[&str], what: &str) -> bool {
    for program in programs {
        let argument = if *program == "openssl" { "version" } else { "--version" };
        let ran = Command::new(program).arg(argument).output().await;
        if !ran.is_ok_and(|output| output.status.success()) {
            skip::say(what, &format!("{program} is not installed"));
            return false;
        }
    }
    true
}

/// Certificates and keys in files.
#[derive(Debug)]
pub struct Files(TempDir);

impl Files {
    /// The files of clients that believe `authority`.
    ///
    /// # Panics
    /// When they cannot be written.
    #[must_use]
    pub fn believing(authority: &Authority) -> Self {
        let files = Self(tempfile::tempdir().expect("there is a directory for temporary files"));
        files.write("ca.pem", &authority.certificate_pem());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("the directory of the test can be written");
    }

    /// Writes a certificate with its key for [`Call::with`].
    pub fn keep(&self, name: &str, svid: &Svid) {
        self.keep_pem(name, &svid.certificate_pem(), svid.key_pem().expose());
    }

    /// The same in PEM.
    pub fn keep_pem(&self, name: &str, certificate: &str, key: &str) {
        self.write(&format!("{name}.crt"), certificate);
        self.write(&format!("{name}.key"), key);
    }

    /// A call to `host` at `address`.
    #[must_use]
    pub fn call<'a>(&'a self, host: &'a str, address: SocketAddr) -> Call<'a> {
        Call { files: self, host, address, source: None, certificate: None, further: Vec::new() }
    }
}

/// How a client calls.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    files: &'a Files,
    host: &'a str,
    address: SocketAddr,
    source: Option<IpAddr>,
    certificate: Option<&'a str>,
    further: Vec<&'a str>,
}

impl<'a> Call<'a> {
    /// From this address.
    #[must_use]
    pub fn from(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// With a certificate that was kept.
    #[must_use]
    pub fn with(mut self, name: &'a str) -> Self {
        self.certificate = Some(name);
        self
    }

    /// With further arguments.
    #[must_use]
    pub fn and(mut self, arguments: &[&'a str]) -> Self {
        self.further.extend_from_slice(arguments);
        self
    }

    fn openssl(&self) -> Command {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &self.address.to_string(), "-servername", self.host]);
        command
            .args(["-verify_return_error", "-verify_hostname", self.host])
            .arg("-CAfile")
            .arg(self.files.path("ca.pem"));
        if let Some(name) = self.certificate {
            let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
            // The chain of the file, not one that openssl finds itself.
            command.arg("-cert").arg(self.files.path(&certificate)).arg("-key").arg(self.files.path(&key));
            command.arg("-cert_chain").arg(self.files.path(&certificate));
        }
        if let Some(source) = self.source {
            command.args(["-bind", &format!("{source}:0")]);
        }
        command.args(&self.further).kill_on_drop(true);
        command
    }

    /// Calls with `openssl s_client`, says nothing, and waits for the end: everything it printed.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn refused(&self) -> String {
        let mut command = self.openssl();
        let ended = command.arg("-ign_eof").stdin(Stdio::null()).output();
        text(&soon("the end of openssl", ended).await.expect("openssl runs"))
    }

    /// Calls with `openssl s_client`, and ends as soon as it has shaken hands: everything it printed.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn shaken(&self) -> String {
        let mut command = self.openssl();
        text(&soon("the end of openssl", command.stdin(Stdio::null()).output()).await.expect("openssl runs"))
    }

    /// Calls with `openssl s_client` to talk.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn talk(&self) -> Talk {
        let mut command = self.openssl();
        command.arg("-quiet").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl runs");
        let stdin = child.stdin.take().expect("it is a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        Talk { _child: child, stdin, stdout }
    }

    /// Calls with curl: what it printed, and whether it was content.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn curl(&self) -> (String, bool) {
        let mut command = Command::new("curl");
        let Self { host, address, .. } = self;
        command.args(["--silent", "--show-error", "--verbose", "--max-time", "20"]);
        command.arg("--cacert").arg(self.files.path("ca.pem"));
        command.args(["--connect-to", &format!("{host}:443:{}:{}", address.ip(), address.port())]);
        if let Some(name) = self.certificate {
            command.arg("--cert").arg(self.files.path(&format!("{name}.crt")));
            command.arg("--key").arg(self.files.path(&format!("{name}.key")));
        }
        if let Some(source) = self.source {
            command.args(["--interface", &source.to_string()]);
        }
        command.args(&self.further).arg(format!("https://{host}/")).kill_on_drop(true);
        let output = soon("the end of curl", command.output()).await.expect("curl runs");
        (text(&output), output.status.success())
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A client that talks.
#[derive(Debug)]
pub struct Talk {
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Talk {
    /// The next line the server says; empty at the end.
    ///
    /// # Panics
    /// When the client cannot be read.
    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        soon("a line of the server", self.stdout.read_line(&mut line)).await.expect("openssl can be read");
        line.trim_end().to_owned()
    }

    /// Says a line and gives back the answer.
    ///
    /// # Panics
    /// When the client is gone.
    pub async fn say(&mut self, text: &str) -> String {
        self.stdin.write_all(format!("{text}\n").as_bytes()).await.expect("openssl takes a line");
        self.line().await
    }
}
