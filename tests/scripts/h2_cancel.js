// Asks over HTTP/2 in the clear and cancels: `/wait` before an answer, when it is told by SIGUSR2; `/stream` and `/upload` within one. `/break` is
// left to the server.
const http2 = require('http2');
const [, , url, path] = process.argv;
setTimeout(() => { console.log('too slow'); process.exit(1); }, 20000).unref();
const client = http2.connect(url);
client.on('error', (error) => { console.log(error.message); process.exit(1); });
const upload = path.startsWith('/upload');
const stream = client.request({ ':path': path, ':method': upload ? 'POST' : 'GET' }, { endStream: !upload });
let cancelled = false;
const cancel = () => { cancelled = true; stream.close(http2.constants.NGHTTP2_CANCEL); };
if (upload) stream.write('something');
if (path.startsWith('/wait')) process.on('SIGUSR2', cancel);
stream.on('data', () => { if (!path.startsWith('/break')) cancel(); });
stream.on('end', () => { if (!cancelled && stream.rstCode === 0) console.log('ended'); });
stream.on('error', () => {});
stream.on('close', () => {
  console.log(cancelled ? 'cancelled' : 'reset ' + stream.rstCode);
  // A goodbye would end the stream too: the connection stays for a while.
  setTimeout(() => client.close(), 500);
});
