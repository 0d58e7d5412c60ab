//! How destinations get connections, with the programs that people put there.

mod introduced;
mod passthrough;
mod tls;

use std::time::{Duration, SystemTime};

use federation_model::{spiffe::SpiffeId, time::Timestamp};
use federation_pki::{
    Validity,
    ca::{Authority, SvidRequest},
    svid::Svid,
};
use tests::client::rest;
use tokio::{io::AsyncWriteExt, net::TcpStream};

const API: &str = "production/api";
const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// The body of the answer to a request.
async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(REQUEST).await.unwrap();
    body(&rest(stream).await.unwrap())
}

fn body(answer: &[u8]) -> String {
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer in HTTP: {answer:?}"));
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.trim_end().to_owned()
}

fn svid(authority: &Authority, id: &str) -> Svid {
    let validity = Validity::starting(Timestamp::from(SystemTime::now()), Duration::from_secs(3600));
    authority.issue(&SvidRequest { id: SpiffeId::new(id).unwrap(), names: Vec::new(), validity }).unwrap()
}

/// An HTTP server of nginx that answers with a text in which its variables are replaced.
fn nginx_conf(dir: &std::path::Path, server: &str, text: &str) -> String {
    let dir = dir.display();
    format!(
        "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n\
         access_log off;\n\
         client_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\nfastcgi_temp_path {dir}/fastcgi;\n\
         uwsgi_temp_path {dir}/uwsgi;\nscgi_temp_path {dir}/scgi;\n\
         server {{\n{server}\nreturn 200 \"{text}\\n\";\n}}\n\
         }}\n"
    )
}
