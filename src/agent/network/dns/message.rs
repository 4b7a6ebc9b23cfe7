//! Questions and answers as bytes: what a packet asks, what is sent back, and whether a server's answer is one to it.
//!
//! Pure, and called with whatever a container sends: no bytes may make it panic.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use rand::Rng;
use rand::seq::SliceRandom;

use super::names::{Answer, Kind, Names, Query};
use crate::model::NetworkId;

/// Bytes of a header, before the question.
const HEADER: usize = 12;

/// Bytes that every asker takes in a datagram.
const PLAIN_DATAGRAM: usize = 512;

/// Most bytes in a datagram, whatever the asker says to take.
const LONGEST_DATAGRAM: u16 = 4096;

/// Most bytes of any message: a stream gives the length in 16 bits.
const LONGEST: usize = u16::MAX as usize;

/// Most addresses in one answer, so that even IPv6 ones fit into a message on a stream.
const MOST_RECORDS: usize = 2000;

/// Bytes that no record has less than: an address of IPv4, of a name that is told by where it stands before.
const SHORTEST_RECORD: usize = 15;

/// How a question came, which is how its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// In a datagram.
    Udp,
    /// On a stream.
    Tcp,
}

/// What is to be done about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Send this back.
    Send(Vec<u8>),
    /// Ask servers outside.
    Forward(Asked),
    /// Nothing: it is no question, and an answer could go round in circles.
    Nothing,
}

/// A question that servers outside are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    packet: Vec<u8>,
    question_end: usize,
    limit: usize,
    via: Via,
}

/// Answers a packet of a container in these networks, out of what is known. `rng` orders addresses.
pub fn reply(
    names: &Names,
    asker: &[NetworkId],
    packet: &[u8],
    via: Via,
    rng: &mut impl Rng,
) -> Reply {
    let Some((header, _)) = packet.split_first_chunk::<HEADER>() else {
        return Reply::Nothing;
    };
    if header[2] & 0x80 != 0 {
        return Reply::Nothing;
    }
    let refuse = |code: ResponseCode| Reply::Send(refusal(packet, code));
    if header[2] & 0x78 != 0 {
        return refuse(ResponseCode::NotImp);
    }
    let Some(question_end) = question_end(packet) else {
        return refuse(ResponseCode::FormErr);
    };
    let Ok(message) = Message::from_vec(packet) else {
        return refuse(ResponseCode::FormErr);
    };
    let [question] = &*message.queries else {
        return refuse(ResponseCode::FormErr);
    };
    let limit = limit(&message, via);
    let mut response = response(&message, question);
    if message.version() > 0 {
        response.metadata.response_code = ResponseCode::BADVERS;
        return Reply::Send(fitting(response, limit));
    }
    let is_transfer = [RecordType::AXFR, RecordType::IXFR].contains(&question.query_type);
    if question.query_class != DNSClass::IN || is_transfer {
        return refuse(ResponseCode::Refused);
    }
    let answer = query(question).map(|query| names.answer(asker, &query));
    let answer = answer.unwrap_or(Answer::Forward);
    if answer == Answer::Forward {
        return Reply::Forward(Asked {
            packet: packet.to_vec(),
            question_end,
            limit,
            via,
        });
    }
    response.answers = records(question, answer, rng);
    Reply::Send(fitting(response, limit))
}

/// What is asked, if a name of ours could be meant: its labels are plain, so that the dots in the text are those
/// between them.
fn query(question: &Question) -> Option<Query> {
    let mut name = String::new();
    for label in question.name.iter() {
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'.';
        if !label.iter().all(is_plain) {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(
            label
                .iter()
                .map(|byte| char::from(byte.to_ascii_lowercase())),
        );
    }
    let kind = match question.query_type {
        RecordType::A => Kind::V4,
        RecordType::AAAA => Kind::V6,
        RecordType::ANY => Kind::Any,
        RecordType::PTR => pointed(&question.name).map_or(Kind::Other, Kind::Pointer),
        _ => Kind::Other,
    };
    Some(Query { name, kind })
}

/// The address of a name below `in-addr.arpa` or `ip6.arpa`, if it is a whole one.
fn pointed(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

/// A name of ours as it is sent: any label that is not too long, as networks and containers may have an underscore.
fn wire_name(name: &str) -> Option<Name> {
    Name::from_labels(name.split('.').map(str::as_bytes)).ok()
}

/// Most bytes that the asker takes.
fn limit(message: &Message, via: Via) -> usize {
    match via {
        Via::Udp => usize::from(message.max_payload().min(LONGEST_DATAGRAM)).max(PLAIN_DATAGRAM),
        Via::Tcp => LONGEST,
    }
}

/// An answer without records.
fn response(message: &Message, question: &Question) -> Message {
    let mut response = Message::new(message.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata.recursion_desired = message.metadata.recursion_desired;
    response.metadata.checking_disabled = message.metadata.checking_disabled;
    response.metadata.recursion_available = true;
    response.add_query(question.clone());
    if message.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LONGEST_DATAGRAM);
        response.set_edns(edns);
    }
    response
}

fn records(question: &Question, answer: Answer, rng: &mut impl Rng) -> Vec<Record> {
    let record = |ttl, data| Record::from_rdata(question.name.clone(), ttl, data);
    match answer {
        Answer::Addresses {
            mut addresses,
            shuffled,
            ttl,
        } => {
            if shuffled {
                addresses.shuffle(rng);
            }
            let data = addresses.into_iter().map(|addr| match addr {
                IpAddr::V4(addr) => RData::A(A(addr)),
                IpAddr::V6(addr) => RData::AAAA(AAAA(addr)),
            });
            data.take(MOST_RECORDS)
                .map(|data| record(ttl, data))
                .collect()
        }
        Answer::Pointers { names, ttl } => {
            let names = names.iter().filter_map(|name| wire_name(name));
            let data = names.map(|name| RData::PTR(PTR(name)));
            data.take(MOST_RECORDS)
                .map(|data| record(ttl, data))
                .collect()
        }
        Answer::Empty | Answer::Forward => Vec::new(),
    }
}

/// The message in no more than `limit` bytes: with as many records as fit, and with word that there are more.
fn fitting(mut message: Message, limit: usize) -> Vec<u8> {
    let most = limit / SHORTEST_RECORD;
    message.metadata.truncation = message.answers.len() > most;
    message.answers.truncate(most);
    let encode = |message: &Message| message.to_vec().ok().filter(|bytes| bytes.len() <= limit);
    if let Some(bytes) = encode(&message) {
        return bytes;
    }
    message.metadata.truncation = true;
    let all = std::mem::take(&mut message.answers);
    let mut best = encode(&message).unwrap_or_default();
    let (mut fit, mut too_many) = (0, all.len());
    while fit + 1 < too_many {
        let tried = fit.midpoint(too_many);
        message.answers = all[..tried].to_vec();
        match encode(&message) {
            Some(bytes) => (fit, best) = (tried, bytes),
            None => too_many = tried,
        }
    }
    best
}

/// Where the only question ends, if there is one and it says its name in full.
fn question_end(packet: &[u8]) -> Option<usize> {
    if packet.get(4..6)? != [0, 1] {
        return None;
    }
    let mut at = HEADER;
    loop {
        match usize::from(*packet.get(at)?) {
            0 => break,
            length @ 1..64 => at += 1 + length,
            _ => return None,
        }
    }
    let end = at + 5;
    (end <= packet.len()).then_some(end)
}

/// An answer without records that gives a reason, to a packet that has a header. It repeats the question where it can.
fn refusal(packet: &[u8], code: ResponseCode) -> Vec<u8> {
    let question = question_end(packet).map_or(&[][..], |end| &packet[HEADER..end]);
    let opcode_and_recursion = packet[2] & 0x79;
    let mut bytes = vec![packet[0], packet[1]];
    bytes.push(0x80 | opcode_and_recursion);
    bytes.push(0x80 | packet[3] & 0x10 | code.low());
    bytes.extend([0, u8::from(!question.is_empty()), 0, 0, 0, 0, 0, 0]);
    bytes.extend(question);
    bytes
}

impl Asked {
    /// How the question came.
    pub fn via(&self) -> Via {
        self.via
    }

    /// Most bytes that the asker takes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The question as a server gets it.
    pub fn under(&self, id: u16) -> Vec<u8> {
        renamed(self.packet.clone(), id)
    }

    /// Whether these bytes answer the question, asked under that ID. A server that says only that something is wrong
    /// may leave the question out.
    pub fn is_answered_by(&self, id: u16, bytes: &[u8]) -> bool {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
            return false;
        };
        let is_answer = header[..2] == id.to_be_bytes() && header[2] & 0xf8 == 0x80;
        if !is_answer || (header[4..6] == [0, 0] && code(bytes) != 0) {
            return is_answer;
        }
        let Some(end) = question_end(bytes) else {
            return false;
        };
        let (name, of) = bytes[HEADER..end].split_at(end - HEADER - 4);
        let asked = &self.packet[HEADER..self.question_end];
        let (asked_name, asked_of) = asked.split_at(asked.len() - 4);
        name.eq_ignore_ascii_case(asked_name) && of == asked_of
    }

    /// A server's answer as the asker gets it: under the ID that it asked with, and only word of its length where it
    /// is longer than the asker takes.
    pub fn answered(&self, bytes: Vec<u8>) -> Vec<u8> {
        if bytes.len() > self.limit {
            let mut short = refusal(&self.packet, ResponseCode::NoError);
            short[2] |= 0x02;
            return short;
        }
        renamed(bytes, u16::from_be_bytes([self.packet[0], self.packet[1]]))
    }

    /// What the asker gets when no server answers.
    pub fn failed(&self) -> Vec<u8> {
        refusal(&self.packet, ResponseCode::ServFail)
    }
}

fn renamed(mut bytes: Vec<u8>, id: u16) -> Vec<u8> {
    if let Some(start) = bytes.first_chunk_mut() {
        *start = id.to_be_bytes();
    }
    bytes
}

/// Whether an answer says that there is more of it than it holds.
pub(super) fn is_cut_short(bytes: &[u8]) -> bool {
    bytes.get(2).is_some_and(|byte| byte & 0x02 != 0)
}

/// Whether an answer says that this server cannot tell, so that another may.
pub(super) fn is_no_help(bytes: &[u8]) -> bool {
    let codes = [
        ResponseCode::ServFail,
        ResponseCode::NotImp,
        ResponseCode::Refused,
    ];
    codes.iter().any(|of| of.low() == code(bytes))
}

fn code(bytes: &[u8]) -> u8 {
    bytes.get(3).map_or(0, |byte| byte & 0x0f)
}

#[cfg(test)]
mod tests;
