//! `fedctl policy promote`: a policy that was on trial decides from here on.
//!
//! The manifest is what is changed, on the host that has it; the gateway follows it as it follows any other change.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use federation_kube::promote::promote;
use federation_model::{policy::PolicyKey, time::Timestamp};
use serde::Serialize;

use super::confirmed;
use crate::{
    Ending,
    args::{Target, policy::PolicyPromote},
    connect,
    failure::{Failure, OrHint as _},
    print::Console,
    render::{
        count,
        policy::{PoliciesView, PolicyView, ReportView},
    },
};

/// What a policy would have refused is looked at for this long.
const LOOKED_AT: Duration = Duration::from_secs(7 * 86_400);
/// How often the gateway is asked whether it follows.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// The largest manifest that is edited: what a gateway reads.
const MAX_MANIFEST: u64 = 4 * 1024 * 1024;

/// What came of it.
#[derive(Debug, Serialize)]
struct Promoted {
    policy: String,
    file: String,
    /// The action the gateway follows now; nothing when it was not waited for, or does not follow yet.
    action: Option<String>,
}

pub(super) async fn run(what: PolicyPromote, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let key = what.policy.0;
    let mut gateway = connect::gateway(target).await?;
    let known = find(&mut gateway, &key).await?;
    let file = match (what.file, known.as_ref().and_then(|policy| policy.file.clone())) {
        (Some(file), _) => file,
        (None, Some(file)) => PathBuf::from(file),
        (None, None) => {
            return Err(Failure::because(
                format!("the gateway has no AuthorizationPolicy {key}"),
                "fedctl policy list, or --file with its manifest",
            ));
        }
    };
    let text = read(&file)?;
    let promoted = promote(&text, &key).or_hint(
        format!("{} is not changed", file.display()),
        "the manifest, by hand: action ALLOW or DENY, no audits",
    )?;
    if !what.yes {
        let since = Timestamp(console.now.0.saturating_sub(LOOKED_AT.as_secs()));
        let report = super::policy::ask(std::slice::from_mut(&mut gateway), since, Some(&key)).await?;
        confirmed(console, &question(&key, &report))?;
    }
    replace(&file, &promoted)
        .or_hint(format!("cannot write {}", file.display()), "the same command as a user who may write the manifest")?;
    let action = if what.wait.is_zero() { None } else { follow(&mut gateway, &key, what.wait).await? };
    let waited = !what.wait.is_zero();
    let told = Promoted { policy: key.to_string(), file: file.display().to_string(), action };
    console.answer(&told, || words(&told, waited));
    Ok(if waited && told.action.is_none() { Ending::ChecksFailed } else { Ending::Done })
}

async fn find(gateway: &mut connect::Gateway, key: &PolicyKey) -> Result<Option<PolicyView>, Failure> {
    let all = PoliciesView::from(gateway.policies().await?).policies;
    Ok(all.into_iter().find(|policy| policy.kind == "AuthorizationPolicy" && policy.key() == key.to_string()))
}

fn read(file: &Path) -> Result<String, Failure> {
    let read = || -> io::Result<String> {
        if fs::metadata(file)?.len() > MAX_MANIFEST {
            return Err(io::Error::other("it is larger than a gateway reads"));
        }
        fs::read_to_string(file)
    };
    read().or_hint(
        format!("cannot read {}", file.display()),
        "the same command on the host of the gateway, or --file with the manifest",
    )
}

/// Writes the file whole: a gateway that reads meanwhile sees the old text or the new one.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    // Where the manifest is a link, what it points to is changed.
    let file = fs::canonicalize(file)?;
    let name = file.file_name().ok_or_else(|| io::Error::other("it is not a file"))?.to_string_lossy().into_owned();
    let draft = file.with_file_name(format!(".{name}.new"));
    let old = fs::metadata(&file)?;
    // What is left of an interrupted draft goes. Whatever takes its place meanwhile is not written to, a link least of all:
    // others may write to this directory.
    if let Err(error) = fs::remove_file(&draft)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut new = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let mut write = || -> io::Result<()> {
        new.write_all(text.as_bytes())?;
        let made = new.metadata()?;
        if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
            // The gateway reads it as another user than the one who promotes.
            fchown(&new, Some(old.uid()), Some(old.gid()))?;
        }
        new.set_permissions(old.permissions())?;
        new.sync_all()?;
        fs::rename(&draft, &file)
    };
    write().inspect_err(|_| {
        // It may not be there.
        let _ = fs::remove_file(&draft);
    })
}

/// Waits until the gateway follows; nothing when it does not in time.
async fn follow(gateway: &mut connect::Gateway, key: &PolicyKey, wait: Duration) -> Result<Option<String>, Failure> {
    let deadline = Instant::now() + wait;
    loop {
        let policy = find(gateway, key).await?;
        if let Some(policy) = policy.filter(PolicyView::decides) {
            return Ok(Some(policy.action));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn question(key: &PolicyKey, report: &ReportView) -> String {
    match report.total() {
        0 => format!("{key} would have refused no call in the last 7 days. Put it in force?"),
        calls => format!(
            "{key} would have refused {} in the last 7 days: fedctl policy report --since 7d --policy {key}. Put it in force, so \
             that such calls are refused?",
            count(usize::try_from(calls).unwrap_or(usize::MAX), "call", "calls")
        ),
    }
}

fn words(told: &Promoted, waited: bool) -> String {
    let Promoted { policy, file, action } = told;
    match action {
        Some(action) => format!("{policy} is in force: {action}, written to {file}\n"),
        None if waited => format!(
            "{file} says that {policy} is in force, and the gateway does not follow it yet: fedctl policy list shows what it \
             has read\n"
        ),
        None => format!("{file} says that {policy} is in force\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_manifest_is_replaced_whole_with_its_mode_and_behind_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.yaml"), dir.path().join("link.yaml"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&real, &link).unwrap();
        replace(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_link_where_the_draft_goes_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (manifest, other) = (dir.path().join("a.yaml"), dir.path().join("other"));
        fs::write(&manifest, "old").unwrap();
        fs::write(&other, "precious").unwrap();
        symlink(&other, dir.path().join(".a.yaml.new")).unwrap();
        replace(&manifest, "new").unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&manifest).unwrap(), "new");
    }

    #[test]
    fn a_manifest_keeps_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = dir.path().join("a.yaml");
        fs::write(&manifest, "old").unwrap();
        if std::os::unix::fs::chown(&manifest, Some(12_345), Some(12_345)).is_err() {
            eprintln!("SKIPPED: only root can give a file away");
            return;
        }
        replace(&manifest, "new").unwrap();
        let metadata = fs::metadata(&manifest).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12_345, 12_345));
    }
}
