using BenchmarkDotNet.Running;
using KCacheNative.Benchmarks.Decode;
using KCacheNative.Benchmarks.Measurement;

// `decode ...` is ours; anything else is BenchmarkDotNet's.
if (args is [DecodeCommand.Name, ..])
    return DecodeCommand.Run(args[1..]);
BenchmarkSwitcher.FromAssembly(typeof(BenchmarkConfig).Assembly).Run(args, BenchmarkConfig.Create());
return 0;
