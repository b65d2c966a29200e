// Extended CONNECT (RFC 8441) by node: URL, path, `frames` (a WebSocket echo) or `bytes` (an echo of bytes).
const http2 = require('http2');
const [, , url, path, kind] = process.argv;
const fail = (why) => { console.log('failed: ' + why); process.exit(1); };
setTimeout(() => fail('too slow'), 20000).unref();
const client = http2.connect(url, { rejectUnauthorized: false });
client.on('error', (error) => fail(error.message));
const text = 'hello over a stream';
const payload = kind === 'frames'
  ? Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)])
  : Buffer.from(text);
const expected = kind === 'frames'
  ? Buffer.concat([Buffer.from([0x81, text.length]), Buffer.from(text)])
  : payload;
client.once('remoteSettings', (settings) => {
  if (!settings.enableConnectProtocol) fail('no SETTINGS_ENABLE_CONNECT_PROTOCOL');
  const stream = client.request({
    ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': url.split(':')[0], ':path': path,
    ':authority': 'a.example', 'sec-websocket-version': '13', 'sec-websocket-protocol': 'chat',
  });
  const came = [];
  stream.on('response', (headers) => {
    console.log('status ' + headers[':status']);
    for (const name of ['sec-websocket-accept', 'upgrade', 'connection']) {
      if (name in headers) fail(name + ' in an answer over HTTP/2');
    }
    if (headers[':status'] !== 200) { client.close(); return; }
    console.log('protocol ' + headers['sec-websocket-protocol']);
    stream.write(payload);
  });
  stream.on('data', (data) => {
    came.push(data);
    if (Buffer.concat(came).length < expected.length) return;
    if (!Buffer.concat(came).equals(expected)) fail('got ' + Buffer.concat(came));
    console.log('echoed');
    stream.end();
  });
  stream.on('close', () => { console.log('closed'); client.close(); });
  stream.on('error', (error) => fail(error.message));
});
