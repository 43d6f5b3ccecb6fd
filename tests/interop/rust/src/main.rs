//! One SSH connection with russh; what it saw is printed as one JSON line. The flags and the line are those of the
//! Go program beside it, see ../../kit/programs.py.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};

use russh::keys::{
    self, Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate,
};
use russh::{cipher, client, compression, kex, mac, ChannelMsg, Limits, Names, Preferred};
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

type Failure = Box<dyn std::error::Error>;
type Flags = HashMap<String, String>;

const KEPT_BYTES: usize = 64 * 1024;

/// Hashes everything and keeps the beginning.
#[derive(Default)]
struct Sink {
    hash: Sha256,
    size: usize,
    kept: Vec<u8>,
}

impl Sink {
    fn take(&mut self, data: &[u8]) {
        self.hash.update(data);
        self.size += data.len();
        let room = KEPT_BYTES.saturating_sub(self.kept.len()).min(data.len());
        self.kept.extend_from_slice(&data[..room]);
    }

    fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.kept)
    }
}

/// What the callbacks of the connection note down.
struct Seen {
    key_exchanges: u32,
    names: Value,
    host_key: String,
}

struct Handler {
    seen: Arc<Mutex<Seen>>,
    announced: mpsc::UnboundedSender<Vec<PublicKey>>,
}

impl client::Handler for Handler {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        server: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        if let PublicKeyOrCertificate::PublicKey { key, .. } = server {
            self.seen.lock().unwrap().host_key = key.fingerprint(HashAlg::Sha256).to_string();
        }
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _secret: Option<&[u8]>,
        names: &Names,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        let mut seen = self.seen.lock().unwrap();
        seen.key_exchanges += 1;
        seen.names = json!({
            "kex": names.kex.as_ref(),
            "host_key_algorithm": names.key.to_string(),
            "cipher": names.cipher.as_ref(),
            "mac": names.client_mac.as_ref(),
        });
        Ok(())
    }

    async fn openssh_ext_host_keys_announced(
        &mut self,
        keys: Vec<PublicKey>,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        // Nobody listens any more once the session is over.
        let _ = self.announced.send(keys);
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn flags() -> Result<Flags, Failure> {
    let mut flags = Flags::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let name = word
            .strip_prefix("--")
            .ok_or_else(|| format!("not a flag: {word}"))?;
        let value = words
            .next()
            .ok_or_else(|| format!("--{name} wants a value"))?;
        flags.insert(name.to_string(), value);
    }
    Ok(flags)
}

fn flag<'a>(flags: &'a Flags, name: &str) -> Option<&'a str> {
    flags
        .get(name)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}

/// The names of a comma-separated flag, each of which russh must know; `all` without the flag.
fn chosen<T: Clone, E>(
    flags: &Flags,
    name: &str,
    all: &Cow<'static, [T]>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Cow<'static, [T]>, Failure> {
    let Some(text) = flag(flags, name) else {
        return Ok(all.clone());
    };
    text.split(',')
        .map(|word| parse(word).map_err(|_| format!("russh has no {name} {word}").into()))
        .collect::<Result<Vec<T>, Failure>>()
        .map(Cow::Owned)
}

fn preferred(flags: &Flags) -> Result<Preferred, Failure> {
    let base = Preferred::default();
    let mut kex = chosen(flags, "kex", &base.kex, |name| kex::Name::try_from(name))?;
    if flag(flags, "kex").is_some() {
        // The extensions stand in the same list.
        kex.to_mut().extend([
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
        ]);
    }
    Ok(Preferred {
        kex,
        key: chosen(flags, "hostkey", &base.key, str::parse::<Algorithm>)?,
        cipher: chosen(flags, "cipher", &base.cipher, |name| {
            cipher::Name::try_from(name)
        })?,
        mac: chosen(flags, "mac", &base.mac, |name| mac::Name::try_from(name))?,
        compression: chosen(
            flags,
            "compression",
            &Cow::Borrowed(&[compression::NONE] as &[_]),
            |name| compression::Name::try_from(name),
        )?,
        ..base
    })
}

fn config(flags: &Flags) -> Result<client::Config, Failure> {
    let mut config = client::Config {
        preferred: preferred(flags)?,
        ..Default::default()
    };
    if let Some(bytes) = flag(flags, "rekey") {
        let bytes = bytes.parse()?;
        config.limits = Limits::new(bytes, bytes, config.limits.rekey_time_limit);
    }
    Ok(config)
}

async fn login(session: &mut client::Handle<Handler>, flags: &Flags) -> Result<(), Failure> {
    let user = flag(flags, "user").unwrap_or_default();
    let result = match flag(flags, "key") {
        Some(file) => {
            let key = keys::load_secret_key(file, None)?;
            let hash = session.best_supported_rsa_hash().await?.flatten();
            let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
            session.authenticate_publickey(user, key).await?
        }
        None => {
            let password = flag(flags, "password").unwrap_or_default();
            session.authenticate_password(user, password).await?
        }
    };
    if result.success() {
        Ok(())
    } else {
        Err("login refused".into())
    }
}

/// One program in one session; its input is sent while its output is read.
async fn run(session: &client::Handle<Handler>, flags: &Flags) -> Result<Value, Failure> {
    let channel = session.channel_open_session().await?;
    if flag(flags, "pty").is_some() {
        channel
            .request_pty(true, "xterm", 80, 24, 0, 0, &[])
            .await?;
    }
    if flag(flags, "mode") == Some("shell") {
        channel.request_shell(true).await?;
    } else {
        channel
            .exec(true, flag(flags, "command").unwrap_or_default())
            .await?;
    }
    let input = match flag(flags, "input") {
        Some(file) => tokio::fs::read(file).await?,
        None => Vec::new(),
    };
    let (mut reader, writer) = channel.split();
    let send = async {
        // The program may end without reading it all.
        if writer.data(&input[..]).await.is_ok() {
            let _ = writer.eof().await;
        }
    };
    let (mut stdout, mut stderr, mut exit_status) = (Sink::default(), Sink::default(), None);
    let mut refused = false;
    let receive = async {
        while let Some(message) = reader.wait().await {
            match message {
                ChannelMsg::Data { data } => stdout.take(&data),
                ChannelMsg::ExtendedData { data, .. } => stderr.take(&data),
                ChannelMsg::ExitStatus { exit_status: value } => exit_status = Some(value),
                ChannelMsg::Failure => refused = true,
                _ => {}
            }
            if refused {
                break;
            }
        }
    };
    tokio::join!(send, receive);
    if refused {
        return Err("request refused".into());
    }
    Ok(json!({
        "exit_status": exit_status,
        "stdout_bytes": stdout.size,
        "stdout": stdout.text(),
        "stderr": stderr.text(),
        "stdout_sha256": hex(&stdout.hash.finalize()),
    }))
}

/// Keepalive requests, all in flight at once; each must be answered, with yes or no.
async fn ask(session: &client::Handle<Handler>, count: u32) -> Vec<&'static str> {
    let mut replies = Vec::new();
    let mut waiting: Vec<_> = (0..count)
        .map(|_| Box::pin(session.send_global_request("keepalive@openssh.com", b"", true)))
        .collect();
    // Polled once each: the requests leave before the first reply is waited for.
    std::future::poll_fn(|context| {
        for request in &mut waiting {
            if let std::task::Poll::Ready(reply) = request.as_mut().poll(context) {
                replies.push(reply);
            }
        }
        std::task::Poll::Ready(())
    })
    .await;
    assert!(replies.is_empty(), "answered before anything was sent");
    for request in waiting {
        replies.push(request.await);
    }
    replies
        .into_iter()
        .map(|reply| match reply {
            Ok(_) => "success",
            Err(russh::Error::RequestDenied) => "failure",
            Err(_) => "none",
        })
        .collect()
}

/// Waits for the announcement of the host keys, and lets the server prove that it has them.
async fn prove(
    session: &client::Handle<Handler>,
    announced: &mut mpsc::UnboundedReceiver<Vec<PublicKey>>,
) -> Result<Value, Failure> {
    let keys = announced
        .recv()
        .await
        .ok_or("the server announced no host keys")?;
    let names: Vec<String> = keys
        .iter()
        .map(|key| key.fingerprint(HashAlg::Sha256).to_string())
        .collect();
    session.hostkeys_prove(keys).await?;
    Ok(json!(names))
}

async fn work(
    flags: &Flags,
    seen: &Arc<Mutex<Seen>>,
    report: &mut serde_json::Map<String, Value>,
) -> Result<(), Failure> {
    let (sender, mut announced) = mpsc::unbounded_channel();
    let handler = Handler {
        seen: seen.clone(),
        announced: sender,
    };
    let host = flag(flags, "host").unwrap_or("127.0.0.1");
    let port: u16 = flag(flags, "port").unwrap_or("22").parse()?;
    let mut session = client::connect(Arc::new(config(flags)?), (host, port), handler).await?;
    login(&mut session, flags).await?;
    if let Some(count) = flag(flags, "globals") {
        report.insert(
            "global_replies".into(),
            json!(ask(&session, count.parse()?).await),
        );
    }
    if flag(flags, "prove").is_some() {
        report.insert(
            "proven_host_keys".into(),
            prove(&session, &mut announced).await?,
        );
    }
    if let Value::Object(outcome) = run(&session, flags).await? {
        report.extend(outcome);
    }
    session
        .disconnect(russh::Disconnect::ByApplication, "", "")
        .await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let flags = flags()?;
    let seen = Arc::new(Mutex::new(Seen {
        key_exchanges: 0,
        names: json!({}),
        host_key: String::new(),
    }));
    let mut report = serde_json::Map::new();
    let result = work(&flags, &seen, &mut report).await;
    let seen = seen.lock().unwrap();
    if let Value::Object(names) = &seen.names {
        report.extend(names.clone());
    }
    report.insert("key_exchanges".into(), json!(seen.key_exchanges));
    report.insert("host_key".into(), json!(seen.host_key));
    if let Err(error) = result {
        report.insert("error".into(), json!(error.to_string()));
    }
    println!("{}", Value::Object(report));
    Ok(())
}
