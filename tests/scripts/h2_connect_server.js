// A server of HTTP/2 in the clear that takes extended CONNECT and echoes bytes; `/refused` is refused with 403.
const http2 = require('http2');
const [, , port, ...words] = process.argv;
const settings = { enableConnectProtocol: !words.includes('plain') };
const server = http2.createServer({ settings });
server.on('stream', (stream, headers) => {
  const say = (what) => console.log(what);
  say([headers[':method'], headers[':protocol'], headers[':path'], headers[':authority'],
    'sec-websocket-key' in headers ? 'key' : 'keyless'].join(' '));
  stream.on('error', () => {});
  stream.on('close', () => say('closed ' + stream.rstCode));
  if (headers[':path'] === '/refused') {
    stream.respond({ ':status': 403, 'content-length': '3' });
    stream.end('no\n');
    return;
  }
  stream.respond({ ':status': 200, 'sec-websocket-protocol': 'chat' });
  stream.pipe(stream);
});
server.listen(Number(port), '127.0.0.1');
