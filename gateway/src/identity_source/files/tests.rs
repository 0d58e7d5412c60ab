use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use federation_model::spiffe::TrustDomain;
use federation_pki::{Validity, ca::Authority};
use federation_runtime::followed::{LOOK, SETTLE};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// The longest a fact may take: with virtual time, some looks at the directory and the time an update is given.
const PATIENCE: Duration = Duration::from_secs(4 * LOOK.as_secs());

fn id() -> SpiffeId {
    SpiffeId::new("spiffe://east.example/landbridge/gateway").unwrap()
}

fn authority() -> Authority {
    let validity = Validity::starting(SystemTime::now().into(), Duration::from_secs(3600));
    Authority::generate(&TrustDomain::new("east.example").unwrap(), "east", validity).unwrap()
}

/// A directory as the kubelet mounts a Secret: the files are links through `..data`, which is swapped as a whole.
struct Mount(TempDir);

impl Mount {
    fn of(authority: &Authority) -> Self {
        let mount = Self(TempDir::new().unwrap());
        mount.swap("..first", &authority.certificate_pem(), authority.key_pem().expose());
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            std::os::unix::fs::symlink(Path::new("..data").join(name), mount.0.path().join(name)).unwrap();
        }
        mount
    }

    fn swap(&self, version: &str, certificate: &str, key: &str) {
        let dir = self.0.path();
        fs::create_dir(dir.join(version)).unwrap();
        fs::write(dir.join(version).join("tls.crt"), certificate).unwrap();
        fs::write(dir.join(version).join("ca.crt"), certificate).unwrap();
        fs::write(dir.join(version).join("tls.key"), key).unwrap();
        fs::set_permissions(dir.join(version).join("tls.key"), fs::Permissions::from_mode(0o440)).unwrap();
        std::os::unix::fs::symlink(version, dir.join("..data_tmp")).unwrap();
        let old = fs::read_link(dir.join("..data")).ok();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(dir.join(old)).unwrap();
        }
    }

    async fn open(&self) -> FileSource {
        FileSource::open(self.0.path().to_owned(), id()).await.unwrap()
    }
}

/// Runs a source for as long as the value lives.
struct Running {
    feed: Feed,
    stop: CancellationToken,
    tasks: tokio::task::JoinSet<()>,
}

impl Running {
    fn start(source: FileSource) -> Self {
        let (feed, stop) = (source.feed(), CancellationToken::new());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(source.run(stop.clone()));
        Self { feed, stop, tasks }
    }

    async fn end(mut self) {
        self.stop.cancel();
        timeout(PATIENCE, self.tasks.join_next()).await.expect("a source ends when it is told to").unwrap().unwrap();
    }

    async fn in_force(&mut self, authority: &Authority) {
        let wanted = |material: &Arc<Material>| material.authorities() == [authority.certificate().clone()];
        let seen = timeout(PATIENCE, self.feed.material.wait_for(wanted)).await;
        seen.expect("the new authority is put in force").unwrap();
    }

    async fn fault(&mut self, text: &str) {
        let wanted = |fault: &Option<String>| fault.as_ref().is_some_and(|fault| fault.contains(text));
        let seen = timeout(PATIENCE, self.feed.fault.wait_for(wanted)).await;
        seen.unwrap_or_else(|_| panic!("a fault with {text:?} is reported")).unwrap();
    }

    async fn no_fault(&mut self) {
        timeout(PATIENCE, self.feed.fault.wait_for(Option::is_none)).await.expect("the fault ends").unwrap();
    }
}

#[tokio::test]
async fn a_secret_swapped_by_its_link_is_in_force_at_once_and_no_fault_on_the_way() {
    let (first, second, third) = (authority(), authority(), authority());
    let mount = Mount::of(&first);
    let mut running = Running::start(mount.open().await);
    running.in_force(&first).await;
    for (version, next) in [("..second", &second), ("..third", &third)] {
        mount.swap(version, &next.certificate_pem(), next.key_pem().expose());
        running.in_force(next).await;
    }
    assert!(!running.feed.fault.has_changed().unwrap());
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_update_is_reported_and_the_last_good_material_stays_until_a_better_one_comes() {
    let (first, second) = (authority(), authority());
    let mount = Mount::of(&first);
    let mut running = Running::start(mount.open().await);
    mount.swap("..bad", &second.certificate_pem(), first.key_pem().expose());
    running.fault("tls.key does not belong to any certificate of tls.crt").await;
    running.in_force(&first).await;
    mount.swap("..good", &second.certificate_pem(), second.key_pem().expose());
    running.in_force(&second).await;
    running.no_fault().await;
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn files_that_are_replaced_one_by_one_are_used_when_all_are_there() {
    let (first, second) = (authority(), authority());
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("tls.crt", &first.certificate_pem());
    write("tls.key", first.key_pem().expose());
    let source = FileSource::open(dir.path().to_owned(), id()).await.unwrap();
    let mut running = Running::start(source);
    write("tls.crt", &second.certificate_pem());
    let before = Instant::now();
    // In virtual time: two readings find the new certificate with the old key.
    while before.elapsed() < 2 * LOOK_AGAIN {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    write("tls.key", second.key_pem().expose());
    running.in_force(&second).await;
    assert!(!running.feed.fault.has_changed().unwrap(), "an update under way is no fault");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_replaced_as_a_whole_is_found_by_looking() {
    let (first, second) = (authority(), authority());
    let parent = TempDir::new().unwrap();
    let (one, other) = (Mount::of(&first), Mount::of(&second));
    let link = parent.path().join("identity");
    std::os::unix::fs::symlink(one.0.path(), &link).unwrap();
    let mut running = Running::start(FileSource::open(link.clone(), id()).await.unwrap());
    running.in_force(&first).await;
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(other.0.path(), &link).unwrap();
    let patient = timeout(PATIENCE, running.feed.material.changed()).await;
    patient.expect("the directory is read every half minute").unwrap();
    assert_eq!(running.feed.material.borrow().authorities(), [second.certificate().clone()]);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_without_usable_files_says_what_to_do_within_seconds() {
    let refusal = async |dir: &Path| FileSource::open(dir.to_owned(), id()).await.unwrap_err().to_string();
    let before = Instant::now();
    let dir = TempDir::new().unwrap();
    let error = refusal(dir.path()).await;
    assert!(error.contains("identity.dir") && error.contains("tls.crt does not exist"), "{error}");
    assert!(before.elapsed() < 2 * SETTLE);

    let mount = Mount::of(&authority());
    let key = mount.0.path().join("..first/tls.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o444)).unwrap();
    let error = refusal(mount.0.path()).await;
    assert!(error.contains("(mode 0444)") && error.contains("defaultMode: 0440"), "{error}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o440)).unwrap();
    assert!(FileSource::open(mount.0.path().to_owned(), id()).await.is_ok());

    let west = SpiffeId::new("spiffe://west.example/landbridge/gateway").unwrap();
    let error = FileSource::open(mount.0.path().to_owned(), west).await.unwrap_err().to_string();
    assert!(error.contains("is of trust domain east.example") && error.contains("west.example"), "{error}");
}
