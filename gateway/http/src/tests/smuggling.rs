//! Requests that two readers could read in two ways, byte for byte: each is refused, or reaches the endpoint in one reading.

use federation_model::outcome::Outcome;

use super::stage::{Set, field};

/// What is sent right after a request that must not be read as ending before it.
const SECOND: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sends `words` and what would be smuggled; the answer, and how often somebody was asked to judge.
async fn sent(words: &[u8]) -> (String, Set, Outcome) {
    let set = Set::echo(false);
    let mut stage = set.open();
    let answer = stage.say([words, SECOND.as_bytes()].concat()).await;
    let outcome = stage.leave().await.outcome;
    (answer, set, outcome)
}

#[tokio::test]
async fn a_request_with_two_readings_is_refused_and_nothing_behind_it_is_read() {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\nabcde");
    for (what, words, status) in [
        ("lengths that differ", with("Content-Length: 5\r\nContent-Length: 6"), "400"),
        ("a list of lengths", with("Content-Length: 5, 5"), "400"),
        ("a signed length", with("Content-Length: +5"), "400"),
        ("a negative length", with("Content-Length: -5"), "400"),
        ("a hexadecimal length", with("Content-Length: 0x5"), "400"),
        ("an empty length", with("Content-Length: "), "400"),
        ("a length of 2^64", with("Content-Length: 18446744073709551616"), "400"),
        ("a coding nobody knows", with("Transfer-Encoding: xchunked"), "400"),
        ("chunked that is not last", with("Transfer-Encoding: chunked, identity"), "400"),
        ("a coding before chunked", with("Transfer-Encoding: gzip, chunked"), "501"),
        ("chunked twice", with("Transfer-Encoding: chunked, chunked"), "501"),
        ("chunked on two lines", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), "501"),
        ("identity, then chunked", with("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"), "501"),
        ("a vertical tab before chunked", with("Transfer-Encoding: \x0bchunked"), "400"),
        ("a quoted coding", with("Transfer-Encoding: \"chunked\""), "400"),
        ("a space before the colon", with("Transfer-Encoding : chunked"), "400"),
        ("a folded line", with("X: a\r\n b"), "400"),
        ("a folded coding", with("Transfer-Encoding:\r\n chunked"), "400"),
        ("a space before the first header", "POST / HTTP/1.1\r\n Host: a\r\n\r\n".to_owned(), "400"),
        ("a NUL in a name", with("X\0Y: a"), "400"),
        ("a space in a name", with("X Y: a"), "400"),
        ("a NUL in a value", with("X: a\0b"), "400"),
        ("a bare CR in a value", with("X: a\rb"), "400"),
        ("a bare CR as the end of a line", with("X: a\rTransfer-Encoding: chunked"), "400"),
        ("no name", with(": a"), "400"),
        ("no colon", with("X"), "400"),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), "400"),
        ("two hosts in one Host", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".to_owned(), "400"),
        ("a Host with a user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n".to_owned(), "400"),
        ("a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), "400"),
        ("two spaces in the request line", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400"),
        ("a tab in the request line", "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400"),
        ("a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400"),
        ("no version", "GET /\r\nHost: a\r\n\r\n".to_owned(), "400"),
        ("a version nobody speaks", "GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(), "400"),
        ("a version in lower case", "GET / http/1.1\r\nHost: a\r\n\r\n".to_owned(), "400"),
        ("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), "400"),
    ] {
        let (answer, set, outcome) = sent(words.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what}: {answer}");
        assert_eq!((set.judged(), set.dialled()), (0, 0), "{what}");
        assert_eq!(outcome, Outcome::BadRequest, "{what}");
    }
}

#[tokio::test]
async fn a_body_with_malformed_chunks_is_refused_and_never_reaches_the_endpoint_whole() {
    for (what, chunks) in [
        ("a size that is no number", "z\r\nabc\r\n0\r\n\r\n"),
        ("a signed size", "+3\r\nabc\r\n0\r\n\r\n"),
        ("a size of 2^64", "10000000000000000\r\nabc\r\n0\r\n\r\n"),
        ("an empty size", "\r\nabc\r\n0\r\n\r\n"),
        ("a size in 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("a chunk that is longer than its size", "3\r\nabcdef\r\n0\r\n\r\n"),
        ("a size that ends in a bare LF", "3\nabc\r\n0\r\n\r\n"),
        ("a chunk that ends in a bare LF", "3\r\nabc\n0\r\n\r\n"),
        ("a size that ends in a bare CR", "3\rabc\r\n0\r\n\r\n"),
        ("a bare LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
        ("a trailer with a NUL", "0\r\nX\0: a\r\n\r\n"),
    ] {
        let words = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let (answer, set, outcome) = sent(words.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what}: {answer}");
        assert_eq!(set.judged(), 1, "{what}: what follows is not read as a request");
        assert_eq!(outcome, Outcome::BadRequest, "{what}");
        assert_eq!(set.recorded()[0].3, Outcome::BadRequest, "{what}");
    }
}

#[tokio::test]
async fn a_length_beside_chunked_is_left_out_and_the_connection_ends_after_the_answer() {
    for fields in ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
    {
        let words = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        let (answer, set, _) = sent(words.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let asked = answer.split("\r\n\r\n").nth(1).unwrap();
        assert_eq!(field(asked, "transfer-encoding"), Some("chunked"), "{asked}");
        assert_eq!(field(asked, "content-length"), None, "{asked}");
        assert!(asked.ends_with("\n\nok"), "{asked}");
        assert_eq!(set.judged(), 1, "what follows is not read as a request");
    }
}

#[tokio::test]
async fn what_is_merely_unusual_reaches_the_endpoint_as_it_should_have_been_written() {
    for (what, words) in [
        ("lines that end in a bare LF", "GET / HTTP/1.1\nHost: a\nX: y\n\n"),
        ("empty lines before the request", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"),
        (
            "the same length twice",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\nX: y\r\n\r\n",
        ),
        ("blanks around a value", "GET / HTTP/1.1\r\nHost: a\r\nX: \t y \t \r\n\r\n"),
        ("names in capitals", "GET / HTTP/1.1\r\nHOST: a\r\nX: y\r\n\r\n"),
    ] {
        let set = Set::echo(false);
        let answer = set.open().ask(words).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{what}: {answer}");
        let asked = answer.split("\r\n\r\n").nth(1).unwrap();
        assert_eq!((field(asked, "host"), field(asked, "x")), (Some("a"), Some("y")), "{what}: {asked}");
        assert!(asked.matches("content-length").count() < 2, "{what}: {asked}");
    }
}
