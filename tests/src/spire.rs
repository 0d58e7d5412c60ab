//! A real SPIRE server with one agent, where their programs are installed.
//!
//! Owns the two processes and their directory. The agent attests by the user id of this process.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::wait::until;

const SERVER: &str = "spire-server";
const AGENT: &str = "spire-agent";

/// A server and an agent of one trust domain.
#[derive(Debug)]
pub struct Spire {
    dir: TempDir,
    trust_domain: String,
    server: Child,
    agent: Option<Child>,
}

/// Whether both programs are here.
#[must_use]
pub fn is_installed() -> bool {
    let runs = |program| Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    runs(SERVER) && runs(AGENT)
}

impl Spire {
    /// Starts both, and waits until the agent is attested.
    ///
    /// # Panics
    /// When one does not start.
    pub async fn start(trust_domain: &str) -> Self {
        let dir = TempDir::new().expect("a directory for SPIRE");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        write(dir.path(), "server.conf", &server_settings(dir.path(), trust_domain, port));
        let server = start(SERVER, dir.path(), "server.conf", &[]);
        let mut spire = Self { dir, trust_domain: trust_domain.to_owned(), server, agent: None };
        let bundle = until("the SPIRE server answers", async || spire.ask(&["bundle", "show"])).await;
        write(spire.dir.path(), "bundle.pem", &bundle);
        write(spire.dir.path(), "agent.conf", &agent_settings(spire.dir.path(), trust_domain, port));
        let token = spire.ask(&["token", "generate", "-spiffeID", &spire.id("node")]).expect("a join token");
        let token =
            token.lines().find_map(|line| line.strip_prefix("Token: ")).expect("the token is printed").to_owned();
        spire.agent = Some(start(AGENT, spire.dir.path(), "agent.conf", &["-joinToken", &token]));
        until("the SPIRE agent listens", async || spire.socket().exists().then_some(())).await;
        spire
    }

    /// The socket of the agent.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    /// Issues this id to processes of this user, for a minute at a time.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn register(&self, id: &str) {
        let selector = format!("unix:uid:{}", rustix::process::getuid().as_raw());
        let (parent, ttl) = (self.id("node"), "60");
        let entry =
            ["entry", "create", "-parentID", &parent, "-spiffeID", id, "-selector", &selector, "-x509SVIDTTL", ttl];
        self.ask(&entry).expect("the entry is made");
    }

    /// Ends the agent as a crash does.
    ///
    /// # Panics
    /// When it cannot be ended.
    pub fn stop_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().and_then(|()| agent.wait()).expect("the agent can be ended");
        }
    }

    /// Starts the agent again; it keeps its own SVID on disk.
    pub fn restart_agent(&mut self) {
        self.agent = Some(start(AGENT, self.dir.path(), "agent.conf", &[]));
    }

    fn id(&self, path: &str) -> String {
        format!("spiffe://{}/{path}", self.trust_domain)
    }

    /// What the server's command line says; nothing when it fails.
    fn ask(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new(SERVER);
        command.args(arguments).arg("-socketPath").arg(self.dir.path().join("server.sock"));
        let output = command.output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    }
}

impl Drop for Spire {
    fn drop(&mut self) {
        let end = |child: &mut Child| -> io::Result<()> { child.kill().and_then(|()| child.wait().map(drop)) };
        // What has ended already needs no end.
        let _ = self.agent.as_mut().map(end);
        let _ = end(&mut self.server);
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).expect("the directory takes files");
}

fn start(program: &str, dir: &Path, settings: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.arg("run").arg("-config").arg(dir.join(settings)).args(arguments);
    command.current_dir(dir).stdin(Stdio::null()).spawn().expect("the program starts")
}

fn server_settings(dir: &Path, trust_domain: &str, port: u16) -> String {
    let dir = dir.display();
    format!(
        r#"server {{
    bind_address = "127.0.0.1"
    bind_port = "{port}"
    socket_path = "{dir}/server.sock"
    trust_domain = "{trust_domain}"
    data_dir = "{dir}/server"
    log_level = "WARN"
}}
plugins {{
    DataStore "sql" {{ plugin_data {{ database_type = "sqlite3", connection_string = "{dir}/datastore.sqlite3" }} }}
    NodeAttestor "join_token" {{ plugin_data {{}} }}
    KeyManager "memory" {{ plugin_data {{}} }}
}}
"#
    )
}

fn agent_settings(dir: &Path, trust_domain: &str, port: u16) -> String {
    let dir = dir.display();
    format!(
        r#"agent {{
    server_address = "127.0.0.1"
    server_port = "{port}"
    socket_path = "{dir}/agent.sock"
    trust_bundle_path = "{dir}/bundle.pem"
    trust_domain = "{trust_domain}"
    data_dir = "{dir}/agent"
    log_level = "WARN"
}}
plugins {{
    NodeAttestor "join_token" {{ plugin_data {{}} }}
    KeyManager "disk" {{ plugin_data {{ directory = "{dir}/agent" }} }}
    WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"#
    )
}
