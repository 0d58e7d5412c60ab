//! `fedctl init`: a configuration to start from.
//!
//! Asks nothing, never changes a file that is there, and leaves out nothing that somebody will want to change.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::{
    Ending,
    args::{Init, InitFederation, InitGateway},
    failure::{Failure, OrHint},
    print::Console,
};

pub(super) fn run(what: Init, console: &mut Console) -> Result<Ending, Failure> {
    match what {
        Init::Gateway(init) => gateway(&init, console),
        Init::Federation(init) => federation(&init, console),
    }
}

fn gateway(init: &InitGateway, console: &mut Console) -> Result<Ending, Failure> {
    let dir = directory(&init.dir)?;
    let manifests = dir.join("manifests");
    make(&manifests)?;
    let state = dir.join("state");
    let advertise: Vec<_> = init.advertise.iter().map(|address| quoted(&address.to_string())).collect();
    let text = include_str!("init/gateway.toml")
        .replace("@CLUSTER@", &quoted(init.cluster.as_str()))
        .replace("@TRUST_DOMAIN@", &quoted(init.trust_domain.as_ref()))
        .replace("@ADVERTISE@", &advertise.join(", "))
        .replace("@MANIFESTS@", &quoted_path(&manifests)?)
        .replace("@STATE@", &quoted_path(&state)?);
    let file = dir.join("gateway.toml");
    let written = write_new(&file, &text)?;
    let next = format!(
        "Next: landbridge-gateway --config {}\nthen: fedctl join TOKEN --gateway unix:{}\n",
        file.display(),
        state.join("admin.sock").display()
    );
    tell(console, &file, written, &next);
    Ok(Ending::Done)
}

fn federation(init: &InitFederation, console: &mut Console) -> Result<Ending, Failure> {
    let dir = directory(&init.dir)?;
    let names = if init.names.is_empty() { vec!["localhost".to_owned()] } else { init.names.clone() };
    let names: Vec<_> = names.iter().map(|name| quoted(name)).collect();
    let state = dir.join("state");
    let url = state.to_str().map(|path| quoted(&format!("file:{path}")));
    let url = url.ok_or_else(|| not_text(&state))?;
    let text = include_str!("init/federation.toml").replace("@NAMES@", &names.join(", ")).replace("@STORE@", &url);
    let file = dir.join("federation.toml");
    let written = write_new(&file, &text)?;
    let next = format!(
        "Next: landbridge-federation --config {}\nthen: fedctl token create --cluster NAME --federation https://HOST:15010 --operator {}\n",
        file.display(),
        state.join("operator").display()
    );
    tell(console, &file, written, &next);
    Ok(Ending::Done)
}

fn tell(console: &mut Console, file: &Path, written: bool, next: &str) {
    console.answer(&json!({ "file": file, "written": written }), || {
        let what = if written { "Written" } else { "There already, and the same" };
        format!("{what}: {}\n{next}", file.display())
    });
}

/// Makes the directory, and gives its absolute path: the programs may be started from anywhere.
fn directory(dir: &Path) -> Result<PathBuf, Failure> {
    make(dir)?;
    fs::canonicalize(dir).or_hint(format!("{} cannot be entered", dir.display()), "another --dir")
}

fn make(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).or_hint(format!("{} cannot be made", dir.display()), "a --dir that you may write to")
}

/// Writes a new file; `false` when the same one is there already.
fn write_new(file: &Path, text: &str) -> Result<bool, Failure> {
    let written = OpenOptions::new().write(true).create_new(true).open(file).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::read(file) {
            Ok(there) if there == text.as_bytes() => Ok(false),
            Ok(_) | Err(_) => Err(Failure::because(
                format!("{} is there already, with other contents", file.display()),
                "another --dir, or move the file away first",
            )),
        },
        Err(error) => Err(Failure::new(error, "a --dir that you may write to")
            .context(format!("{} cannot be written", file.display()))),
    }
}

/// A TOML string. JSON escapes are TOML escapes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn quoted_path(path: &Path) -> Result<String, Failure> {
    path.to_str().map(quoted).ok_or_else(|| not_text(path))
}

fn not_text(path: &Path) -> Failure {
    Failure::because(format!("{} cannot be written in a configuration file", path.display()), "a --dir in plain UTF-8")
}
