//! `fedctl audit`: who did what to the cluster set, and whether an exported log of it is whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, BufWriter, Read, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use federation_client::operator::{AuditLines, Wanted, authorities};
use federation_model::bundle::Fingerprint;
use federation_pki::export::{Examination, Examined, ExportFault, MAX_LINE};
use serde_json::json;

use super::look;
use crate::{
    Ending,
    args::{
        Target,
        audit::{Audit, AuditList, AuditVerify},
    },
    connect,
    failure::{Failure, OrHint as _},
    print::Console,
    render::audit::{self, EntryView, ExportView},
};

/// Stands for standard input or output.
const STREAM: &str = "-";

pub(super) async fn run(what: Audit, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    match what {
        Audit::List(which) => list(which, target, console).await,
        Audit::Export { file } => export(&file, target, console).await,
        Audit::Verify(verify) => self::verify(&verify, target, console),
    }
}

async fn list(which: AuditList, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let wanted = Wanted {
        since: which.since.unwrap_or(0),
        limit: which.limit,
        action: which.action,
        subject: which.subject.unwrap_or_default(),
    };
    let entries = connect::operator(target).await?.audit(&wanted).await?;
    let entries: Vec<_> = entries.into_iter().map(EntryView::from).collect();
    let look = look(console);
    console.answer(&json!({ "entries": entries }), || audit::table(&entries, look));
    Ok(Ending::Done)
}

/// Writes the log, and examines it on the way: a file that is not whole is noticed when it can still be replaced.
async fn export(file: &Path, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let mut lines = connect::operator(target).await?.export_audit().await?;
    if file == Path::new(STREAM) {
        let examined = copied(&mut lines, |line| {
            console.out(line);
            Ok(())
        });
        let view = viewed(file, examined.await?, &known(None, target)?);
        console.note(&view.text());
        return Ok(ending(&view));
    }
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let opened = opened.or_hint(format!("{} cannot be made", file.display()), "a file that is not there yet");
    let mut writer = BufWriter::new(opened?);
    let written = copied(&mut lines, |line| writeln!(writer, "{line}")).await;
    let synced = writer.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
    let finished = written.and_then(|examined| {
        synced.or_hint(format!("{} cannot be written", file.display()), "a disk with more room")?;
        Ok(examined)
    });
    let examined = match finished {
        Ok(examined) => examined,
        Err(failure) => {
            // Half a log would only be taken for a forged one.
            let _ = fs::remove_file(file);
            return Err(failure);
        }
    };
    let view = viewed(file, examined, &known(None, target)?);
    console.answer(&view, || view.text());
    Ok(ending(&view))
}

/// Gives every line to `write`, and what an examination of them found.
async fn copied(
    lines: &mut AuditLines,
    mut write: impl FnMut(&str) -> io::Result<()>,
) -> Result<Result<Examined, ExportFault>, Failure> {
    let mut examination = Ok(Examination::default());
    while let Some(part) = lines.next().await.map_err(connect::operator_failure)? {
        for line in &part {
            write(line).or_hint("the audit log cannot be written", "a disk with more room")?;
            examination = examination.and_then(|mut examination| examination.line(line).map(|()| examination));
        }
    }
    Ok(examination.and_then(Examination::finish))
}

fn verify(verify: &AuditVerify, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let known = known(verify.authority, target)?;
    let mut examination = Examination::default();
    if let Some(earlier) = &verify.continues {
        let found = examined(examination, open(earlier)?, earlier)?;
        let head = found.as_ref().map(|examined| examined.head).ok();
        let view = viewed(earlier, found, &known);
        let Some(head) = head.filter(|_| view.whole) else {
            console.answer(&view, || view.text());
            return Ok(Ending::ChecksFailed);
        };
        examination = Examination::continuing(head);
    }
    let file = &verify.file;
    let found = if file == Path::new(STREAM) {
        examined(examination, console.input(), file)?
    } else {
        examined(examination, open(file)?, file)?
    };
    let view = viewed(file, found, &known);
    console.answer(&view, || view.text());
    if let Some(warning) = view.warning() {
        console.note(warning);
    }
    Ok(ending(&view))
}

fn viewed(file: &Path, examined: Result<Examined, ExportFault>, known: &[Fingerprint]) -> ExportView {
    let name = file.display().to_string();
    match examined {
        Ok(examined) => ExportView::new(name, &examined, known),
        Err(fault) => ExportView::broken(name, &fault),
    }
}

fn ending(view: &ExportView) -> Ending {
    if view.whole { Ending::Done } else { Ending::ChecksFailed }
}

/// The authorities that may have sealed a log.
fn known(authority: Option<Fingerprint>, target: &Target) -> Result<Vec<Fingerprint>, Failure> {
    match (authority, &target.operator) {
        (Some(authority), _) => Ok(vec![authority]),
        (None, Some(directory)) => {
            let authorities = authorities(directory)
                .or_hint("the authority of the federation service is not known", "--authority SHA256:...")?;
            Ok(authorities.iter().map(|der| Fingerprint::of(der)).collect())
        }
        (None, None) => Ok(Vec::new()),
    }
}

fn open(file: &Path) -> Result<File, Failure> {
    File::open(file).or_hint(format!("{} cannot be read", file.display()), "a file that fedctl audit export wrote")
}

/// Examines a file of any length, one line in memory at a time.
fn examined(
    mut examination: Examination,
    file: impl Read,
    name: &Path,
) -> Result<Result<Examined, ExportFault>, Failure> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line);
        let hint = "a file that fedctl audit export wrote";
        if read.or_hint(format!("{} cannot be read", name.display()), hint)? == 0 {
            return Ok(examination.finish());
        }
        // What is too long or no text is not written as an entry is; neither is a replacement character.
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line));
        if let Err(fault) = examination.line(&text) {
            return Ok(Err(fault));
        }
    }
}
