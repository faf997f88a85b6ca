//! A NATS client that only holds a connection: the baseline for the weight of a node agent.
//!
//! usage: `bare_client URL CREDS NAME`; runs until it is ended.

#![expect(clippy::unwrap_used, reason = "a program of one line")]

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let options = async_nats::ConnectOptions::with_credentials_file(&arguments[2]).await.unwrap();
    let options = options.custom_inbox_prefix(bus_schema::inbox_prefix(&arguments[3]));
    let client = options.connect(&arguments[1]).await.unwrap();
    client.flush().await.unwrap();
    std::future::pending::<()>().await;
}
