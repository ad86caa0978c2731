using KCacheNative.Runtime;

namespace KCacheNative.Console.Options;

/// <summary>--backend and --device against what this machine has, in the words of the command line.</summary>
internal static class DeviceChoice
{
    /// <exception cref="UsageException">The number belongs to no device.</exception>
    /// <exception cref="KCacheException">The backend does not work here.</exception>
    internal static void Require(Backend backend, int device)
    {
        if (backend == Backend.Cpu && device > 0)
            throw new UsageException($"--device {device} has no effect with --backend cpu; leave it out, or choose --backend cuda.");
        if (backend == Backend.Cuda || device > 0)
            RequireCuda(backend == Backend.Cuda ? "--backend cuda" : $"--device {device}", device);
    }

    /// <summary>Why a backend is not there: the library's sentence without its names for backends.</summary>
    internal static string Reason(KCacheException problem)
    {
        const string Before = "backend is KC_BACKEND_CUDA (2), but ", Behind = "; use KC_BACKEND_CPU";
        string message = problem.Message;
        int begin = message.StartsWith(Before, StringComparison.Ordinal) ? Before.Length : 0;
        int end = message.IndexOf(Behind, begin, StringComparison.Ordinal);
        return message[begin..(end < 0 ? message.Length : end)];
    }

    private static void RequireCuda(string option, int device)
    {
        IReadOnlyList<DeviceInfo> devices;
        try
        {
            devices = DeviceInfo.List(Backend.Cuda);
        }
        catch (KCacheException problem) when (problem.Status == Status.Unsupported)
        {
            throw new KCacheException(
                problem.Status, $"{option} needs an NVIDIA GPU, but {Reason(problem)}; choose --backend cpu, or leave the choice to --backend auto.");
        }

        if (device >= devices.Count)
            throw new UsageException($"--device {device} is not there: `kcache devices` lists those from 0 to {devices.Count - 1}.");
    }
}
