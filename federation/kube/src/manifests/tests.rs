mod policies;

use std::time::Duration;

use federation_model::policy::ROOT_NAMESPACE;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use super::*;

fn service(name: &str, port: u16) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n---\n")
}

fn root() -> Namespace {
    ROOT_NAMESPACE.parse().unwrap()
}

fn assembler(directory: &Path) -> Assembler {
    Assembler::new(directory.to_owned(), root())
}

const NOT_YAML: &str = "kind: [\n";

fn write(dir: &TempDir, name: &str, content: &str) {
    fs::write(dir.path().join(name), content).unwrap();
}

/// The services in force as `name:port`.
fn services(manifests: &Manifests) -> Vec<String> {
    let shown = manifests.objects.services.values().map(|s| format!("{}:{}", s.key.name, s.ports[0].port));
    shown.collect()
}

fn faults(manifests: &Manifests) -> Vec<String> {
    manifests.quarantined.iter().map(|entry| entry.to_string()).collect()
}

#[test]
fn a_directory_that_is_not_there_is_an_error_that_says_what_to_do() {
    let error = ManifestSource::open("/nowhere/at/all", root()).unwrap_err();
    assert!(error.to_string().contains("set catalog.dir"), "{error}");
}

#[test]
fn two_definitions_of_an_object_leave_the_first_by_path_in_force() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "b.yaml", &service("api", 2));
    write(&dir, "a.yaml", &(service("other", 9) + &service("api", 1)));
    let manifests = assembler(dir.path()).read();
    assert_eq!(services(&manifests), ["api:1", "other:9"]);
    let fault = &faults(&manifests)[0];
    assert!(fault.contains("b.yaml:1: Service default/api") && fault.contains("a.yaml (line 6)"), "{fault}");
}

#[test]
fn an_unreadable_rewrite_keeps_the_last_good_objects_until_it_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let mut assembler = assembler(dir.path());
    write(&dir, "a.yaml", &(service("one", 1) + &service("two", 2)));
    assembler.read();

    write(&dir, "a.yaml", NOT_YAML);
    for _ in 0..2 {
        let manifests = assembler.read();
        assert_eq!(services(&manifests), ["one:1", "two:2"]);
        assert!(faults(&manifests)[0].contains("2 object(s) of the last good version"), "{manifests:?}");
    }

    write(&dir, "a.yaml", &(service("one", 11) + NOT_YAML));
    assert_eq!(services(&assembler.read()), ["one:11", "two:2"], "the good part of the rewrite counts");

    write(&dir, "a.yaml", &service("one", 12));
    let manifests = assembler.read();
    assert_eq!((services(&manifests), faults(&manifests)), (vec!["one:12".to_owned()], vec![]));
}

#[test]
fn a_fault_that_names_its_object_keeps_only_this_object() {
    let dir = tempfile::tempdir().unwrap();
    let mut assembler = assembler(dir.path());
    write(&dir, "a.yaml", &(service("one", 1) + &service("two", 2)));
    assembler.read();
    write(&dir, "a.yaml", &service("one", 0));
    let manifests = assembler.read();
    assert_eq!(services(&manifests), ["one:1"]);
    assert!(faults(&manifests)[0].ends_with("its last good version stays in force"), "{manifests:?}");
}

#[test]
fn a_removed_file_takes_its_objects_with_it_even_after_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let mut assembler = assembler(dir.path());
    write(&dir, "a.yaml", &service("one", 1));
    assembler.read();
    write(&dir, "a.yaml", NOT_YAML);
    assembler.read();
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    assert_eq!(assembler.read(), Manifests::default());
}

#[test]
fn a_new_definition_elsewhere_wins_over_a_last_good_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut assembler = assembler(dir.path());
    write(&dir, "a.yaml", &service("one", 1));
    assembler.read();
    write(&dir, "a.yaml", NOT_YAML);
    write(&dir, "b.yaml", &service("one", 2));
    assert_eq!(services(&assembler.read()), ["one:2"]);
}

#[test]
fn a_directory_that_vanishes_keeps_everything_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("manifests");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), service("one", 1)).unwrap();
    let mut assembler = assembler(&root);
    assembler.read();
    fs::remove_dir_all(&root).unwrap();
    for _ in 0..2 {
        let manifests = assembler.read();
        assert_eq!(services(&manifests), ["one:1"]);
        assert!(faults(&manifests)[0].contains("cannot be read"), "{manifests:?}");
    }
    fs::create_dir(&root).unwrap();
    assert_eq!(assembler.read(), Manifests::default());
}

struct Running {
    receiver: watch::Receiver<Arc<Manifests>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(directory: &Path) -> Self {
        let source = ManifestSource::open(directory, root()).unwrap();
        let (receiver, stop) = (source.subscribe(), CancellationToken::new());
        #[expect(clippy::disallowed_methods, reason = "the test owns the task")]
        let task = tokio::spawn(source.run(stop.clone()));
        Self { receiver, stop, task }
    }

    async fn until(&mut self, what: &str, condition: impl Fn(&Manifests) -> bool) {
        let waiting = self.receiver.wait_for(|manifests| condition(manifests));
        if timeout(Duration::from_secs(30), waiting).await.is_err() {
            panic!("{what}: still {:?}", self.receiver.borrow());
        }
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(30), self.task).await.expect("the source stops").unwrap();
    }
}

#[tokio::test]
async fn changes_are_published_live() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "a.yaml", &service("one", 1));
    let mut running = Running::start(dir.path());
    assert_eq!(services(&running.receiver.borrow()), ["one:1"], "the first reading happens before open returns");

    write(&dir, "b.yml", &service("two", 2));
    running.until("a new file", |m| services(m) == ["one:1", "two:2"]).await;
    fs::create_dir(dir.path().join("sub")).unwrap();
    write(
        &dir,
        "sub/c.json",
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"c"},"spec":{"ports":[{"port":3}]}}"#,
    );
    running.until("a file in a new directory", |m| services(m).len() == 3).await;
    write(&dir, "a.yaml", NOT_YAML);
    running.until("a fault", |m| m.quarantined.len() == 1 && services(m).len() == 3).await;
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    running.until("a removed file", |m| services(m) == ["c:3", "two:2"] && m.quarantined.is_empty()).await;
    running.end().await;
}

#[tokio::test]
async fn a_configmap_volume_is_followed_through_its_swapped_link() {
    let dir = tempfile::tempdir().unwrap();
    let link = |from: &str, to: &str| std::os::unix::fs::symlink(from, dir.path().join(to)).unwrap();
    for (version, port) in [("..v1", 1), ("..v2", 2)] {
        fs::create_dir(dir.path().join(version)).unwrap();
        write(&dir, &format!("{version}/a.yaml"), &service("one", port));
    }
    link("..v1", "..data");
    link("..data/a.yaml", "a.yaml");
    let mut running = Running::start(dir.path());
    assert_eq!(services(&running.receiver.borrow()), ["one:1"]);
    link("..v2", "..data_tmp");
    fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    running.until("the new version", |m| services(m) == ["one:2"]).await;
    running.end().await;
}

#[test]
fn a_reading_that_changed_nothing_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "a.yaml", &service("one", 1));
    let mut source = ManifestSource::open(dir.path(), root()).unwrap();
    let receiver = source.subscribe();
    write(&dir, "a.yaml", &(service("one", 1) + "# a comment\n"));
    publish(&source.published, dir.path(), source.assembler.read());
    assert!(!receiver.has_changed().unwrap());
    write(&dir, "a.yaml", &service("one", 2));
    publish(&source.published, dir.path(), source.assembler.read());
    assert!(receiver.has_changed().unwrap());
}
