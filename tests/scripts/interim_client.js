// Asks interim_server.js behind the gateway: URL, `1` or `2`. Bodies are sent once `100 Continue` has come, and not before.
const assert = require('assert');
const http = require('http');
const http2 = require('http2');
const [, , url, own] = process.argv;
setTimeout(() => { console.log('too slow'); process.exit(1); }, 25000).unref();
const session = own === '2' ? http2.connect(url) : null;

// What came: links of hints, whether the body was asked for, status and body of the answer.
const ask2 = (path, body, hinted) => new Promise((resolve, reject) => {
  const headers = { ':path': path, ':method': body === null ? 'GET' : 'PUT', ':authority': 'a.example' };
  if (body !== null) headers.expect = '100-continue';
  const stream = session.request(headers, { endStream: body === null });
  const got = { links: [], asked: false, text: '' };
  stream.on('headers', (fields) => {
    if (fields[':status'] === 103) { got.links.push(fields.link); hinted(); }
  });
  stream.on('continue', () => { got.asked = true; stream.end(body); });
  stream.on('response', (fields) => { got.status = fields[':status']; if (body !== null && !got.asked) stream.end(); });
  stream.on('data', (data) => { got.text += data; });
  stream.on('end', () => resolve(got));
  stream.on('error', reject);
});

const ask1 = (path, body, hinted) => new Promise((resolve, reject) => {
  const headers = { host: 'a.example' };
  if (body !== null) { headers.expect = '100-continue'; headers['content-length'] = body.length; }
  const got = { links: [], asked: false, text: '' };
  const method = body === null ? 'GET' : 'PUT';
  const request = http.request(url + path, { method, headers, agent: false }, (response) => {
    got.status = response.statusCode;
    response.on('data', (data) => { got.text += data; });
    response.on('end', () => { request.destroy(); resolve(got); });
  });
  request.on('information', (info) => {
    if (info.statusCode === 103) { got.links.push(info.headers.link); hinted(); }
  });
  request.on('continue', () => { got.asked = true; request.end(body); });
  request.on('error', (error) => { if (got.status === undefined) reject(error); });
  if (body === null) request.end(); else request.flushHeaders();
});

const ask = session ? ask2 : ask1;
const nothing = () => {};
(async () => {
  let gone = false;
  const go = () => { if (!gone) { gone = true; ask('/go', null, nothing).catch(() => {}); } };
  const hinted = await ask('/hints', null, go);
  assert.deepStrictEqual(hinted, {
    links: ['</first>; rel=preload', '</second>; rel=preload'], asked: false, text: 'hinted', status: 200,
  });
  const asked = await ask('/ask', 'body', nothing);
  assert.deepStrictEqual(asked, { links: [], asked: true, text: 'asked body', status: 200 });
  const silent = await ask('/silent', 'body', nothing);
  assert.deepStrictEqual(silent, { links: [], asked: true, text: 'silent body', status: 200 });
  const refused = await ask('/refuse', 'body', nothing);
  assert.deepStrictEqual(refused, { links: [], asked: false, text: 'no', status: 401 });
  if (session) session.close();
  console.log('ok');
})().catch((error) => { console.log(error.message); process.exit(1); });
