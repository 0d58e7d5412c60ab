use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const GRACE: Duration = Duration::from_secs(5);

fn tasks() -> Tasks {
    Tasks::new(CancellationToken::new())
}

#[tokio::test]
async fn a_task_that_must_not_end_stops_the_program_and_is_named() {
    let tasks = tasks();
    let work = tasks.stage(Stage::Work);
    let stop = work.stop().clone();
    work.spawn("patient", OnEnd::Stop, async move { stop.cancelled().await });
    work.spawn("listener", OnEnd::Stop, async { Err::<(), _>(std::io::Error::other("no more sockets")) });
    let shutdown = tasks.run(GRACE).await;
    assert_eq!(shutdown.stuck, [""; 0]);
    let error = shutdown.into_result().unwrap_err().to_string();
    assert_eq!(error, "task listener failed: no more sockets");
}

#[tokio::test]
async fn a_panic_stops_the_program_with_its_message() {
    let tasks = tasks();
    tasks.stage(Stage::Work).spawn("parser", OnEnd::Finishes, async {
        assert!(std::hint::black_box(false), "index 7 of 3");
    });
    let error = tasks.run(GRACE).await.into_result().unwrap_err().to_string();
    assert!(error.starts_with("task parser panicked: index 7 of 3"), "{error}");
}

#[tokio::test]
async fn a_task_that_may_finish_does_not_stop_the_program() {
    let tasks = tasks();
    let (done, mut wait) = tokio::sync::mpsc::channel::<()>(1);
    tasks.stage(Stage::Work).spawn("once", OnEnd::Finishes, async move { drop(done) });
    assert!(wait.recv().await.is_none());
    tasks.stop().cancel();
    assert!(matches!(tasks.run(GRACE).await.end, End::Asked));
}

#[tokio::test]
async fn stages_stop_one_after_the_other() {
    let tasks = tasks();
    let order = Arc::new(Mutex::new(Vec::new()));
    for stage in [Stage::Support, Stage::Accept, Stage::Work] {
        let (spawner, order) = (tasks.stage(stage), Arc::clone(&order));
        let stop = spawner.stop().clone();
        spawner.spawn("one", OnEnd::Stop, async move {
            stop.cancelled().await;
            tokio::task::yield_now().await;
            order.lock().unwrap().push(stage);
        });
    }
    tasks.stop().cancel();
    assert!(tasks.run(GRACE).await.stuck.is_empty());
    assert_eq!(*order.lock().unwrap(), [Stage::Accept, Stage::Work, Stage::Support]);
}

#[tokio::test]
async fn a_task_that_does_not_stop_is_aborted_and_named() {
    let tasks = tasks();
    tasks.stage(Stage::Work).spawn("deaf", OnEnd::Stop, std::future::pending::<()>());
    tasks.stop().cancel();
    assert_eq!(tasks.run(Duration::from_millis(20)).await.stuck, ["deaf"]);
}

#[tokio::test]
async fn a_restarting_task_is_made_anew_after_errors_and_panics() {
    let tasks = tasks();
    let rounds = Arc::new(AtomicUsize::new(0));
    let (stop, count) = (tasks.stop().clone(), Arc::clone(&rounds));
    let rule = Restart { first: Duration::from_millis(1), ..Restart::default() };
    tasks.stage(Stage::Work).spawn_restarting("flaky", rule, move || {
        let (round, stop) = (count.fetch_add(1, Ordering::Relaxed), stop.clone());
        async move {
            assert!(round != 1, "second round");
            if round == 2 {
                stop.cancel();
                return Ok(());
            }
            Err(std::io::Error::other("first round"))
        }
    });
    let shutdown = tasks.run(GRACE).await;
    assert!(matches!(shutdown.end, End::Asked) && shutdown.stuck.is_empty());
    assert_eq!(rounds.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn dropping_the_owner_ends_its_tasks() {
    let tasks = tasks();
    let (held, mut wait) = tokio::sync::mpsc::channel::<()>(1);
    tasks.stage(Stage::Work).spawn("forever", OnEnd::Stop, async move {
        let _held = held;
        std::future::pending::<()>().await;
    });
    let later = tasks.stage(Stage::Work);
    drop(tasks);
    assert!(wait.recv().await.is_none());
    let (held, mut wait) = tokio::sync::mpsc::channel::<()>(1);
    later.spawn("late", OnEnd::Stop, async move { held.send(()).await });
    assert!(wait.recv().await.is_none());
}
