use std::{future::poll_fn, task::Poll};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
    sync::oneshot,
    task::JoinHandle,
};

use super::*;

/// A socket that holds so many bytes until they are read, and the one it is connected to.
async fn pair(holds: u32) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(holds).unwrap();
    let (near, far) = tokio::join!(socket.connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

struct Spliced {
    client: TcpStream,
    destination: TcpStream,
    cut: oneshot::Sender<Outcome>,
    end: JoinHandle<(Outcome, Counts)>,
}

#[expect(clippy::disallowed_methods, reason = "the test owns the task through its handle")]
async fn spliced(first: Vec<Bytes>, idle: Duration) -> Spliced {
    let ((client, near), (far, destination)) = tokio::join!(pair(4 * 1024), pair(64 * 1024));
    let (cut, when) = oneshot::channel();
    let end = tokio::spawn(async move {
        let mut near_in = TcpEnd::new(near, Outcome::ClientReset);
        let mut far_in = TcpEnd::new(far, Outcome::DestinationReset);
        let (mut near_out, mut far_out) = (near_in.clone(), far_in.clone());
        let cut = async { when.await.unwrap_or(Outcome::Aborted) };
        splice((&mut near_in, &mut near_out), (&mut far_in, &mut far_out), first, idle, cut).await
    });
    Spliced { client, destination, cut, end }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn one_direction_ends_while_the_other_goes_on() {
    let Spliced { mut client, mut destination, cut, end } = spliced(vec![Bytes::from_static(b"first ")], LONG).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = String::new();
    destination.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "first question");
    destination.write_all(b"answer").await.unwrap();
    destination.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
    assert_eq!(end.await.unwrap(), (Outcome::Completed, Counts { sent: 14, received: 6 }));
    drop(cut);
}

#[tokio::test]
async fn a_reset_of_the_destination_is_a_reset_for_the_client() {
    let Spliced { mut client, destination, cut, end } = spliced(Vec::new(), LONG).await;
    socket2::SockRef::from(&destination).set_linger(Some(Duration::ZERO)).unwrap();
    drop(destination);
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(end.await.unwrap().0, Outcome::DestinationReset);
    drop(cut);
}

#[tokio::test]
async fn a_cut_connection_is_reset_on_both_sides_with_the_outcome_given() {
    let Spliced { mut client, mut destination, cut, end } = spliced(Vec::new(), LONG).await;
    cut.send(Outcome::Revoked).unwrap();
    assert_eq!(end.await.unwrap().0, Outcome::Revoked);
    assert_eq!(client.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(destination.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_connection_without_a_byte_is_ended_at_the_idle_limit() {
    let Spliced { client, destination, cut, end } = spliced(Vec::new(), Duration::from_millis(10)).await;
    assert_eq!(end.await.unwrap().0, Outcome::IdleTimeout);
    drop((client, destination, cut));
}

#[test]
fn written_bytes_are_consumed_across_chunks() {
    let mut chunks = [Bytes::from_static(b"abc"), Bytes::from_static(b"de"), Bytes::from_static(b"f")];
    assert_eq!(advance(&mut chunks, 4), 1);
    assert_eq!(chunks[1], Bytes::from_static(b"e"));
    assert_eq!(advance(&mut chunks[1..], 2), 2);
}

/// One end of which a test decides what comes, and sees what it is told.
#[derive(Debug, Default)]
struct Script {
    /// What reading gives, the last one first; then the clean end.
    reads: Vec<Result<Bytes, Outcome>>,
    /// What the other end says instead of taking bytes.
    stopped: Option<Outcome>,
    taken: Vec<u8>,
    told: Vec<&'static str>,
}

impl Source for Script {
    async fn read(&mut self, batch: &mut Vec<Bytes>) -> Result<bool, Outcome> {
        let Some(next) = self.reads.pop() else { return Ok(false) };
        batch.push(next?);
        Ok(true)
    }

    fn stop(&mut self, _: Outcome) {
        self.told.push("stop");
    }

    fn decline(&mut self, _: Outcome) {
        self.told.push("decline");
    }
}

impl Sink for Script {
    async fn write(&mut self, batch: &mut Vec<Bytes>) -> Result<(), Outcome> {
        batch.drain(..).for_each(|bytes| self.taken.extend_from_slice(&bytes));
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Outcome> {
        self.told.push("finish");
        Ok(())
    }

    fn reset(&mut self, _: Outcome) {
        self.told.push("reset");
    }

    async fn stopped(&mut self) -> Outcome {
        match self.stopped {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }
}

/// A source from which nothing comes, until it hears that nothing is wanted.
struct Silent(Vec<&'static str>);

impl Source for Silent {
    async fn read(&mut self, _: &mut Vec<Bytes>) -> Result<bool, Outcome> {
        if self.0.contains(&"decline") { Ok(false) } else { std::future::pending().await }
    }

    fn stop(&mut self, _: Outcome) {
        self.0.push("stop");
    }

    fn decline(&mut self, _: Outcome) {
        self.0.push("decline");
    }
}

fn reads(texts: &[&'static str]) -> Vec<Result<Bytes, Outcome>> {
    texts.iter().rev().map(|text| Ok(Bytes::from_static(text.as_bytes()))).collect()
}

#[tokio::test]
async fn a_destination_that_reads_no_more_still_delivers_its_answer_and_its_end() {
    let (mut client_in, mut client_out) = (Silent(Vec::new()), Script::default());
    let mut destination_in = Script { reads: reads(&["413 ", "too large"]), ..Script::default() };
    let mut destination_out = Script { stopped: Some(Outcome::DestinationReset), ..Script::default() };
    let (outcome, counts) = splice(
        (&mut client_in, &mut client_out),
        (&mut destination_in, &mut destination_out),
        Vec::new(),
        LONG,
        std::future::pending(),
    )
    .await;
    assert_eq!((outcome, counts.received), (Outcome::DestinationReset, 13));
    assert_eq!((client_out.taken.as_slice(), client_out.told), (b"413 too large".as_slice(), vec!["finish"]));
    assert_eq!((client_in.0, destination_out.told), (vec!["decline"], vec!["reset"]));
}

#[tokio::test]
async fn a_client_that_sends_on_gets_the_whole_answer_of_a_destination_that_reads_no_more() {
    let Spliced { mut client, mut destination, cut, end } = spliced(Vec::new(), LONG).await;
    let answer = [7; 48 * 1024];
    destination.write_all(&answer).await.unwrap();
    destination.shutdown().await.unwrap();
    client.write_all(&[1; 64 * 1024]).await.unwrap();
    // Its end and a reset: bytes of the client are on their way to it that nobody will read.
    drop(destination);
    // More than all buffers hold, and none of the answer is read before: it waits in the socket of the gateway.
    for _ in 0..128 {
        client.write_all(&[1; 64 * 1024]).await.unwrap();
    }
    client.shutdown().await.unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, answer);
    assert_eq!(end.await.unwrap().0, Outcome::DestinationReset);
    drop(cut);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_reset_even_when_the_destination_reads_no_more() {
    let (mut client_in, mut client_out) = (Silent(Vec::new()), Script::default());
    let mut answer = reads(&["half of it"]);
    answer.insert(0, Err(Outcome::DestinationReset));
    let mut destination_in = Script { reads: answer, ..Script::default() };
    let mut destination_out = Script { stopped: Some(Outcome::DestinationReset), ..Script::default() };
    let (outcome, _) = splice(
        (&mut client_in, &mut client_out),
        (&mut destination_in, &mut destination_out),
        Vec::new(),
        LONG,
        std::future::pending(),
    )
    .await;
    assert_eq!(outcome, Outcome::DestinationReset);
    assert_eq!((client_out.taken.as_slice(), client_out.told), (b"half of it".as_slice(), vec!["reset"]));
    assert_eq!(client_in.0, ["decline", "stop"]);
}

#[tokio::test]
async fn ends_that_are_always_ready_do_not_keep_a_cut_waiting() {
    let (mut client_in, mut client_out) = (Script::default(), Script::default());
    client_in.reads = vec![Ok(Bytes::from_static(b"x")); 100_000];
    let (mut destination_in, mut destination_out) = (Silent(Vec::new()), Script::default());
    let mut polls = 0;
    let cut = poll_fn(|_| {
        polls += 1;
        if polls > 1 { Poll::Ready(Outcome::Revoked) } else { Poll::Pending }
    });
    let client = (&mut client_in, &mut client_out);
    let destination = (&mut destination_in, &mut destination_out);
    let (outcome, counts) = splice(client, destination, Vec::new(), LONG, cut).await;
    assert_eq!(outcome, Outcome::Revoked);
    assert!(counts.sent < 100_000, "{counts:?}");
}

#[tokio::test]
async fn an_end_that_is_dropped_without_having_been_finished_is_a_reset() {
    let (near, mut far) = pair(64 * 1024).await;
    drop(TcpEnd::new(near, Outcome::ClientReset));
    assert_eq!(far.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);

    let (near, mut far) = pair(64 * 1024).await;
    let mut end = TcpEnd::new(near, Outcome::ClientReset);
    end.write(&mut vec![Bytes::from_static(b"all of it")]).await.unwrap();
    end.finish().unwrap();
    drop(end);
    let mut all = String::new();
    far.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "all of it");
}

#[tokio::test]
async fn a_reset_that_the_writer_hears_of_is_no_clean_end_for_the_reader() {
    let (near, mut far) = pair(64 * 1024).await;
    let mut end = TcpEnd::new(near, Outcome::DestinationReset);
    far.write_all(b"half").await.unwrap();
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
    drop(far);
    // Whoever asks first is told, and only once.
    assert_eq!(end.write(&mut vec![Bytes::from_static(b"x")]).await, Err(Outcome::DestinationReset));
    let mut batch = Vec::new();
    while end.read(&mut batch).await == Ok(true) {}
    assert_eq!(end.read(&mut batch).await, Err(Outcome::DestinationReset));
}
